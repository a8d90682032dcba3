use super::*;
use crate::error::{Class, Classify};
use crate::output::manifest;
use std::os::unix::fs::FileExt;
use std::time::Duration;

fn manifest(name: &str) -> Manifest {
    Manifest::new(
        manifest::Recipe {
            name: name.into(),
            path: "test.yml".into(),
            sha256: "00".into(),
            variables: Default::default(),
            plan: "00".into(),
            files: Default::default(),
        },
        manifest::Appliance { digest: "00".into(), kernel: "6.12".into() },
        manifest::Host {
            accelerator: "tcg".into(),
            qemu: "10.0".into(),
            kernel: "6.1".into(),
            cpus: 1,
            memory_mib: 512,
        },
    )
}

fn disks() -> Vec<Format> {
    Format::ALL.into_iter().filter(|format| format.is_disk()).collect()
}

async fn publish(dir: &Path, formats: &[Format], content: &[u8]) -> Result<Manifest, OutputError> {
    publish_as("test", Others::Stay, Layout::Flat, dir, formats, content).await
}

async fn publish_as(
    name: &str,
    others: Others,
    layout: Layout,
    dir: &Path,
    formats: &[Format],
    content: &[u8],
) -> Result<Manifest, OutputError> {
    let folder = OutputFolder::prepare(dir, name, formats, others, layout)?;
    let target = File::create_new(folder.target()).unwrap();
    target.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    target.set_len(64 << 20).unwrap();
    target.write_all_at(content, 1 << 20).unwrap();
    let logs = tempfile::tempdir().unwrap();
    let (events, mut record) = Record::start(logs.path(), name, &Events::none())?;
    folder.publish(manifest(name), &Contents::default(), &mut record, &events).await
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn all_formats_are_published_with_checksums_that_hold() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = publish(dir.path(), &disks(), b"content").await.unwrap();
    assert_eq!(manifest.outputs.len(), 6);
    assert_eq!(
        names(dir.path()),
        [
            "SHA256SUMS",
            "build.log",
            "manifest.json",
            "test.qcow2",
            "test.raw",
            "test.vdi",
            "test.vhd",
            "test.vhdx",
            "test.vmdk"
        ]
    );
    let mut check = crate::child::command("sha256sum");
    check.args(["--check", "--strict", "--quiet", CHECKSUMS]).current_dir(dir.path());
    crate::child::run(check, Duration::from_secs(60)).await.unwrap();
    let written: Manifest = serde_json::from_slice(&std::fs::read(dir.path().join(MANIFEST)).unwrap()).unwrap();
    assert_eq!(written.outputs, manifest.outputs);
    let mode = |file: &str| std::fs::metadata(dir.path().join(file)).unwrap().permissions();
    for output in &manifest.outputs {
        assert_eq!(mode(&output.file), mode(CHECKSUMS));
        let mut compare = crate::child::command("qemu-img");
        compare.args(["compare", "-f", "raw", "-F", output.format.driver()]);
        compare.args([dir.path().join("test.raw"), dir.path().join(&output.file)]);
        crate::child::run(compare, Duration::from_secs(60)).await.unwrap();
        let mut info = crate::child::command("qemu-img");
        info.args(["info", "--output=json", "-f", output.format.driver()]).arg(dir.path().join(&output.file));
        let info = crate::child::run(info, Duration::from_secs(60)).await.unwrap();
        let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
        assert_eq!(info["virtual-size"].as_u64(), output.virtual_size, "{}", output.file);
        assert!(output.allocated < 16 << 20, "{output:?}");
    }
}

#[tokio::test]
async fn a_second_build_replaces_the_outputs_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = publish(dir.path(), &[Format::Raw], b"first").await.unwrap();
    let second = publish(dir.path(), &[Format::Raw], b"second").await.unwrap();
    assert_ne!(first.outputs, second.outputs);
    assert_eq!(names(dir.path()), ["SHA256SUMS", "build.log", "manifest.json", "test.raw"]);
}

#[tokio::test]
async fn images_in_formats_of_an_earlier_build_do_not_stay() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("test.vdi"), "not made here").unwrap();
    publish(dir.path(), &[Format::Raw, Format::Qcow2, Format::Vmdk], b"first").await.unwrap();
    // Gone already, which is no failure.
    std::fs::remove_file(dir.path().join("test.vmdk")).unwrap();
    publish(dir.path(), &[Format::Raw], b"second").await.unwrap();
    assert_eq!(names(dir.path()), ["SHA256SUMS", "build.log", "manifest.json", "test.raw", "test.vdi"]);
    // Another recipe's images are none of ours.
    publish_as("other", Others::Go, Layout::Flat, dir.path(), &[Format::Raw], b"third").await.unwrap();
    assert!(dir.path().join("test.raw").exists());
}

#[test]
fn a_manifest_cannot_name_other_files_for_removal() {
    let dir = tempfile::tempdir().unwrap();
    let folder =
        OutputFolder::prepare(&dir.path().join("out"), "test", &[Format::Raw], Others::Stay, Layout::Flat).unwrap();
    let mut earlier = manifest("test");
    for file in ["../thesis.raw", "thesis.raw"] {
        std::fs::write(folder.dir.join(file), "years of work").unwrap();
        earlier.outputs.push(Output {
            file: file.into(),
            format: Format::Raw,
            size: 0,
            allocated: 0,
            virtual_size: Some(0),
            sha256: "00".into(),
            container: None,
            commit: None,
        });
    }
    std::fs::write(folder.dir.join(MANIFEST), serde_json::to_vec(&earlier).unwrap()).unwrap();
    folder.remove_stale(&[]).unwrap();
    assert!(dir.path().join("thesis.raw").exists());
    assert!(folder.dir.join("thesis.raw").exists());
}

#[tokio::test]
async fn a_failed_publish_leaves_the_earlier_outputs_alone() {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), &[Format::Raw], b"first").await.unwrap();
    let before = std::fs::read(dir.path().join(CHECKSUMS)).unwrap();
    let folder =
        OutputFolder::prepare(dir.path(), "test", &[Format::Raw, Format::Qcow2], Others::Stay, Layout::Flat).unwrap();
    let logs = tempfile::tempdir().unwrap();
    let (events, mut record) = Record::start(logs.path(), "test", &Events::none()).unwrap();
    // No target disk was made, so there is nothing to convert.
    folder.publish(manifest("test"), &Contents::default(), &mut record, &events).await.unwrap_err();
    assert_eq!(std::fs::read(dir.path().join(CHECKSUMS)).unwrap(), before);
    assert_eq!(names(dir.path()), ["SHA256SUMS", "build.log", "manifest.json", "test.raw"]);
}

#[test]
fn a_folder_that_was_made_for_nothing_goes() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out/test");
    drop(OutputFolder::prepare(&out, "test", &[Format::Raw], Others::Stay, Layout::Flat).unwrap());
    assert_eq!(names(dir.path()), [""; 0]);
    std::fs::create_dir(dir.path().join("out")).unwrap();
    drop(OutputFolder::prepare(&out, "test", &[Format::Raw], Others::Stay, Layout::Flat).unwrap());
    assert_eq!(names(dir.path()), ["out"]);
}

#[test]
fn a_folder_in_the_way_is_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("test.qcow2")).unwrap();
    assert!(OutputFolder::prepare(dir.path(), "test", &[Format::Raw], Others::Stay, Layout::Flat).is_ok());
    let error = OutputFolder::prepare(dir.path(), "test", &[Format::Qcow2], Others::Stay, Layout::Flat).err().unwrap();
    assert!(matches!(error, OutputError::InTheWay { .. }), "{error}");
    assert_eq!(names(dir.path()), ["test.qcow2"]);
}

#[tokio::test]
async fn what_another_recipe_has_made_is_replaced_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), &[Format::Raw], b"first").await.unwrap();
    let texts = || [MANIFEST, CHECKSUMS, LOG].map(|file| std::fs::read(dir.path().join(file)).unwrap());
    let before = texts();
    let error =
        publish_as("other", Others::Stay, Layout::Flat, dir.path(), &[Format::Raw], b"second").await.unwrap_err();
    assert!(matches!(&error, OutputError::OfAnother { name, .. } if name == "test"), "{error}");
    assert_eq!(error.class(), Class::Usage);
    assert!(error.advice().is_some_and(|advice| advice.contains("--output") && advice.contains("--replace")));
    assert_eq!(texts(), before);
    assert_eq!(names(dir.path()), ["SHA256SUMS", "build.log", "manifest.json", "test.raw"]);
    publish_as("other", Others::Go, Layout::Flat, dir.path(), &[Format::Raw], b"second").await.unwrap();
    assert_eq!(names(dir.path()), ["SHA256SUMS", "build.log", "manifest.json", "other.raw", "test.raw"]);
    // It is the other's now.
    let error = publish(dir.path(), &[Format::Raw], b"third").await.unwrap_err();
    assert!(matches!(&error, OutputError::OfAnother { name, .. } if name == "other"), "{error}");
}

#[tokio::test]
async fn a_build_that_ends_after_one_of_another_recipe_does_not_replace_it() {
    let dir = tempfile::tempdir().unwrap();
    let folder = OutputFolder::prepare(dir.path(), "slow", &[Format::Raw], Others::Stay, Layout::Flat).unwrap();
    File::create_new(folder.target()).unwrap().set_len(1 << 20).unwrap();
    publish(dir.path(), &[Format::Raw], b"first").await.unwrap();
    let before = std::fs::read(dir.path().join(CHECKSUMS)).unwrap();
    let logs = tempfile::tempdir().unwrap();
    let (events, mut record) = Record::start(logs.path(), "slow", &Events::none()).unwrap();
    let error = folder.publish(manifest("slow"), &Contents::default(), &mut record, &events).await.unwrap_err();
    assert!(matches!(error, OutputError::OfAnother { .. }), "{error}");
    assert_eq!(std::fs::read(dir.path().join(CHECKSUMS)).unwrap(), before);
    assert_eq!(names(dir.path()), ["SHA256SUMS", "build.log", "manifest.json", "test.raw"]);
}

#[test]
fn a_file_of_the_manifests_name_that_no_build_has_made_stays() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["", "{}", r#"{ "manifest_version": 3, "name": "an extension of a browser" }"#] {
        std::fs::write(dir.path().join(MANIFEST), text).unwrap();
        let error =
            OutputFolder::prepare(dir.path(), "test", &[Format::Raw], Others::Stay, Layout::Flat).err().unwrap();
        assert!(matches!(error, OutputError::Stranger { .. }), "{error}");
        assert_eq!(error.class(), Class::Usage);
        assert!(OutputFolder::prepare(dir.path(), "test", &[Format::Raw], Others::Go, Layout::Flat).is_ok());
    }
    // A later version of this program may say more.
    let later = r#"{ "manifest_version": 7, "recipe": { "name": "test", "colour": "red" }, "more": [] }"#;
    std::fs::write(dir.path().join(MANIFEST), later).unwrap();
    assert!(OutputFolder::prepare(dir.path(), "test", &[Format::Raw], Others::Stay, Layout::Flat).is_ok());
}

#[tokio::test]
async fn images_lie_where_bootc_image_builder_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let formats = [Format::Raw, Format::Qcow2];
    publish(dir.path(), &[Format::Qcow2], b"1").await.unwrap();
    let manifest = publish_as("test", Others::Stay, Layout::Bib, dir.path(), &formats, b"2").await.unwrap();
    assert_eq!(names(dir.path()), ["SHA256SUMS", "build.log", "image", "manifest.json", "qcow2"]);
    assert_eq!(
        (names(&dir.path().join("image")), names(&dir.path().join("qcow2"))),
        (vec!["disk.raw".into()], vec!["disk.qcow2".into()])
    );
    assert_eq!(manifest.outputs[1].file, "qcow2/disk.qcow2");
    let sums = std::fs::read_to_string(dir.path().join("SHA256SUMS")).unwrap();
    assert!(sums.contains("  image/disk.raw\n") && sums.contains("  manifest.json\n"), "{sums}");
    // What is not made any more goes, and a file in the place of a folder is left alone.
    publish_as("test", Others::Stay, Layout::Bib, dir.path(), &[Format::Raw], b"3").await.unwrap();
    assert!(!dir.path().join("qcow2/disk.qcow2").exists() && dir.path().join("image/disk.raw").exists());
    std::fs::write(dir.path().join("vmdk"), "").unwrap();
    let error = publish_as("test", Others::Stay, Layout::Bib, dir.path(), &[Format::Vmdk], b"4").await.unwrap_err();
    assert!(matches!(error, OutputError::Write { .. }), "{error}");
}

#[test]
fn nothing_is_left_of_an_inner_folder_that_nobody_needed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    drop(OutputFolder::prepare(&out, "test", &[Format::Qcow2], Others::Stay, Layout::Bib).unwrap());
    assert!(!out.exists());
}
