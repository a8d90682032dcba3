use super::*;
use crate::child;
use crate::recipe::Compression;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// What stands for the archive of a tree.
fn tree() -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, content) in [("etc/hostname", "particle\n"), ("usr/bin/tool", "#!/bin/sh\n")] {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A disk with `archives` on it, one behind the other, in a folder.
fn disk(folder: &Path, archives: &[(ArchiveKind, &[u8])]) -> Contents {
    let file = Handle::create(folder.join("disk")).unwrap();
    file.set_len(64 << 20).unwrap();
    let mut contents = Contents {
        source_date: 1_700_000_000,
        reference: "particle-os:13".into(),
        architecture: "amd64".into(),
        ..Contents::default()
    };
    contents.container.labels.insert("containers.bootc".into(), "1".into());
    for number in 0..20 {
        contents.container.labels.insert(format!("label.{number}"), "1".into());
    }
    contents.container.command.push("/sbin/init".into());
    let mut offset = 0_u64;
    for (kind, bytes) in archives {
        file.write_all_at(bytes, offset).unwrap();
        contents.archives.push(Archive { kind: *kind, offset, length: bytes.len() as u64 });
        offset = (offset + bytes.len() as u64).next_multiple_of(1 << 20);
    }
    contents
}

async fn make(folder: &Path, contents: &Contents, formats: &[Format]) -> Result<Vec<Option<Made>>, OutputError> {
    let scratch = folder.join("scratch");
    std::fs::create_dir_all(&scratch).unwrap();
    let events = Events::none();
    let mut maker = Maker::new(folder.join("disk"), scratch, contents, &events);
    let mut made = Vec::new();
    for format in formats {
        made.push(maker.make(*format, &folder.join(format.file_name("x"))).await?);
    }
    Ok(made)
}

async fn skopeo(arguments: &[String]) -> Value {
    let mut command = child::command("skopeo");
    command.args(arguments);
    serde_json::from_slice(&child::run(command, Duration::from_secs(60)).await.unwrap()).unwrap()
}

#[tokio::test]
async fn skopeo_reads_every_container() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let folder = tempfile::tempdir().unwrap();
        let mut contents = disk(folder.path(), &[(ArchiveKind::Tree, &tree())]);
        contents.container.compression = compression;
        let formats = [Format::OciArchive, Format::Oci, Format::DockerArchive, Format::Tar];
        let made = make(folder.path(), &contents, &formats).await.unwrap();
        let at = |format: Format| folder.path().join(format.file_name("x")).display().to_string();
        let digest = &made[0].as_ref().unwrap().digest;
        for image in [
            format!("oci-archive:{}", at(Format::OciArchive)),
            format!("oci-archive:{}:particle-os:13", at(Format::OciArchive)),
            format!("oci:{}:particle-os:13", at(Format::Oci)),
            format!("docker-archive:{}", at(Format::DockerArchive)),
        ] {
            let told = skopeo(&["inspect".into(), image.clone()]).await;
            assert_eq!(told["Labels"]["containers.bootc"], "1", "{image}");
            assert_eq!(told["Architecture"], "amd64");
            assert!(image.starts_with("docker") || told["Digest"] == digest.as_str(), "{told}");
            let config = skopeo(&["inspect".into(), "--config".into(), image]).await;
            assert_eq!(config["config"]["Cmd"][0], "/sbin/init");
            assert_eq!(config["created"], "2023-11-14T22:13:20Z");
            let diff_id = format!("sha256:{}", hex::encode(Sha256::digest(tree())));
            assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([diff_id]));
        }
        // It reads the layer too, and holds all against its digest.
        let policy = folder.path().join("policy.json");
        std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        let mut copy = child::command("skopeo");
        copy.arg("--policy").arg(&policy).args(["copy", "--quiet"]);
        copy.arg(format!("oci-archive:{}", at(Format::OciArchive)));
        copy.arg(format!("dir:{}", folder.path().join("copied").display()));
        child::run(copy, Duration::from_secs(60)).await.unwrap();
        assert_eq!(std::fs::read(at(Format::Tar)).unwrap(), tree());
    }
}

#[tokio::test]
async fn the_same_archive_gives_the_same_container() {
    let mut made = Vec::new();
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let contents = disk(folder.path(), &[(ArchiveKind::Tree, &tree())]);
        make(folder.path(), &contents, &[Format::OciArchive, Format::DockerArchive]).await.unwrap();
        let read = |format: Format| std::fs::read(folder.path().join(format.file_name("x"))).unwrap();
        made.push((read(Format::OciArchive), read(Format::DockerArchive)));
    }
    assert!(made[0] == made[1]);
}

/// A repository with one object.
fn repository(names: &[&str]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for name in names {
        let mut header = ::tar::Header::new_ustar();
        // As it stands there, also when it leads elsewhere.
        header.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(2);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, &b"x\n"[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

#[tokio::test]
async fn a_repository_becomes_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let object = format!("objects/ab/{}.filez", "c".repeat(62));
    let repo = repository(&["config", ".lock", "tmp/x", &object, "refs/heads/particle/13"]);
    let contents = disk(folder.path(), &[(ArchiveKind::Tree, &tree()), (ArchiveKind::Repository, &repo)]);
    make(folder.path(), &contents, &[Format::OstreeRepo]).await.unwrap();
    let files = listing(&folder.path().join("x.repo")).unwrap();
    assert_eq!(files, ["config", &object, "refs/heads/particle/13"].map(PathBuf::from));
    assert!(folder.path().join("x.repo/refs/remotes").is_dir());
}

#[tokio::test]
async fn what_belongs_into_no_repository_is_refused() {
    for name in ["../outside", "/etc/passwd", "config/../../x", "hooks/post-update", "refs/heads/../../config"] {
        let folder = tempfile::tempdir().unwrap();
        let contents = disk(folder.path(), &[(ArchiveKind::Repository, &repository(&["config", name]))]);
        let error = make(folder.path(), &contents, &[Format::OstreeRepo]).await.unwrap_err();
        let said = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(said, format!("the VM has put `{name}` into the repository: it does not belong into a repository"));
    }
    let twice = repository(&["config", "config"]);
    let folder = tempfile::tempdir().unwrap();
    let contents = disk(folder.path(), &[(ArchiveKind::Repository, &twice)]);
    make(folder.path(), &contents, &[Format::OstreeRepo]).await.unwrap_err();
    // A link, through which the next entry would write.
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_ustar();
    header.set_entry_type(::tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, "summary", "/etc/passwd").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let contents = disk(folder.path(), &[(ArchiveKind::Repository, &builder.into_inner().unwrap())]);
    let error = make(folder.path(), &contents, &[Format::OstreeRepo]).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("it is not a file"));
}

#[test]
fn archives_that_are_not_where_they_can_be_are_found_out() {
    let archive = |kind, offset, length| Archive { kind, offset, length };
    let (tree, repo) = (ArchiveKind::Tree, ArchiveKind::Repository);
    let sound = |archives: &[Archive], wanted: &[ArchiveKind]| {
        Contents { archives: archives.to_vec(), ..Contents::default() }.is_sound(wanted, 100)
    };
    assert!(sound(&[], &[]));
    assert!(sound(&[archive(tree, 0, 40), archive(repo, 50, 50)], &[tree, repo]));
    assert!(!sound(&[archive(tree, 0, 40), archive(repo, 50, 51)], &[tree, repo]));
    assert!(!sound(&[archive(tree, 0, 40), archive(repo, 30, 10)], &[tree, repo]));
    assert!(!sound(&[archive(tree, 1, 40)], &[tree]));
    assert!(!sound(&[archive(tree, 0, u64::MAX)], &[tree]));
    assert!(!sound(&[archive(tree, 0, 40)], &[tree, repo]));
    assert!(!sound(&[archive(repo, 0, 40)], &[tree]));
}
