//! Which engine an image gets, and what keeps it from one.

use super::make::{Image, Item, KERNEL, bootc_initramfs, initramfs, inspect, ostree_initramfs};
use super::*;
use std::collections::BTreeSet;

fn engine(image: Image, change: impl FnOnce(&mut Image)) -> (Engine, Engine, Vec<&'static str>) {
    let report = report_of(image, change);
    (report.engine.name, report.engine.candidate, report.engine.missing)
}

#[test]
fn images_that_are_as_they_should_be_have_an_engine_and_no_fault() {
    let ostree = Image::ostree().report().unwrap();
    assert_eq!(ostree.engine.name, Engine::NativeOstree, "{ostree:#?}");
    assert_eq!(codes(&ostree, Severity::Warning), [""; 0], "{:#?}", ostree.findings);
    let composefs = Image::composefs().report().unwrap();
    assert_eq!((composefs.engine.name, composefs.engine.backend), (Engine::Bootc, Some(Backend::Composefs)));
    assert_eq!(codes(&composefs, Severity::Warning), [""; 0], "{:#?}", composefs.findings);
    assert_eq!(composefs.engine.requirements.firmware, ["uefi"]);
    let plain = Image::plain().report().unwrap();
    assert_eq!(plain.engine.name, Engine::Plain);
    assert_eq!(plain.engine.requirements.stages, ["kernel", "bootloader"]);
    assert_eq!(codes(&plain, Severity::Warning), ["no-kernel"]);
}

#[test]
fn the_initramfs_decides_and_ostree_comes_first() {
    let both = [ostree_initramfs(), bootc_initramfs()].concat();
    let (name, ..) = engine(Image::composefs(), |image| image.kernel(&initramfs(&both)));
    assert_eq!(name, Engine::NativeOstree);
    // No label: the initramfs says enough.
    let (name, ..) = engine(Image::ostree(), |image| image.labels.clear());
    assert_eq!(name, Engine::NativeOstree);
    let (name, candidate, missing) = engine(Image::composefs(), |image| image.remove("usr/bin/bootc"));
    assert_eq!((name, candidate, missing), (Engine::None, Engine::Bootc, vec!["no-bootc"]));
}

#[test]
fn an_image_that_is_to_install_itself_needs_what_its_backend_does() {
    let wished = |image: &Image| {
        let report = image.report_for(Some(Engine::Bootc)).unwrap();
        let message = report.findings.first().map(|finding| finding.message.clone()).unwrap_or_default();
        (report.engine.name, report.engine.backend, report.engine.missing, message)
    };
    let mut image = Image::ostree();
    let (name, backend, missing, _) = wished(&image);
    assert_eq!(
        (name, backend, missing),
        (Engine::None, Some(Backend::Ostree), vec!["no-bootc", "bootc-lacks-tools", "no-container-policy"])
    );
    image.file("etc/containers/policy.json", "{}");
    for tool in ["bootc", "blkid", "findmnt", "lsblk", "mount", "skopeo"] {
        image.add(&format!("usr/bin/{tool}"), Item::Program(b"ELF".to_vec()));
    }
    let (.., message) = wished(&image);
    assert!(message.ends_with("does not have: podman"), "{message}");
    image.add("usr/bin/podman", Item::Program(b"ELF".to_vec()));
    let (name, backend, missing, _) = wished(&image);
    assert_eq!((name, backend, missing), (Engine::Bootc, Some(Backend::Ostree), vec![]));
    // Nobody wishes it: the engine that needs none of this.
    let report = image.report().unwrap();
    assert_eq!((report.engine.name, codes(&report, Severity::Warning)), (Engine::NativeOstree, vec![]));
    image.history.clear();
    let report = image.report().unwrap();
    assert_eq!(
        (report.engine.name, codes(&report, Severity::Warning)),
        (Engine::NativeOstree, vec!["history-too-short"])
    );
    let (name, _, missing, message) = wished(&image);
    assert_eq!((name, missing), (Engine::None, vec!["history-too-short"]));
    assert!(message.contains("0 entries for 1 layers"), "{message}");
    image.labels.clear();
    assert_eq!(wished(&image).2, ["no-bootc-label", "history-too-short"]);
    // What composefs asks for has nothing to do with OSTree's tools.
    let mut composefs = Image::composefs();
    composefs.remove("usr/bin/bootctl");
    let (.., message) = wished(&composefs);
    assert!(message.ends_with("does not have: bootctl"), "{message}");
}

#[test]
fn what_is_meant_for_deployment_is_not_made_plain() {
    let bare = [("usr/lib/systemd/systemd".to_owned(), vec![]), ("conf/initramfs.conf".to_owned(), vec![])];
    let report = report_of(Image::ostree(), |image| image.kernel(&initramfs(&bare)));
    assert_eq!((report.engine.name, report.engine.candidate), (Engine::None, Engine::NativeOstree));
    assert!(report.engine.missing.contains(&"initramfs-without-ostree"), "{:?}", report.engine);
    let finding = report.findings.iter().find(|finding| finding.code == "initramfs-without-ostree").unwrap();
    assert!(finding.message.contains("made by initramfs-tools"), "{}", finding.message);
    assert!(finding.remedy.contains("--add ostree") && finding.remedy.contains(KERNEL), "{}", finding.remedy);
}

#[test]
fn an_image_that_is_no_system_has_no_engine() {
    let report = inspect(&[], r#"{"architecture":"amd64","os":"linux"}"#).unwrap();
    assert_eq!((report.engine.name, report.engine.missing), (Engine::None, vec!["not-an-os"]));
    let (name, candidate, missing) = engine(Image::plain(), |image| image.architecture = "arm64");
    assert_eq!((name, candidate, missing), (Engine::None, Engine::Plain, vec!["architecture"]));
}

#[test]
fn a_plain_image_with_a_kernel_needs_less() {
    let report = report_of(Image::plain(), |image| {
        image.file("boot/vmlinuz-6.12.1-amd64", "kernel");
        image.add("boot/initrd.img-6.12.1-amd64", Item::File(initramfs(&[])));
        image.add("usr/lib/modules/6.12.1-amd64", Item::Folder);
    });
    assert_eq!(report.engine.requirements.stages, ["bootloader"]);
    assert_eq!(codes(&report, Severity::Warning), [""; 0], "{:#?}", report.findings);
    let kernel = &report.facts.kernels[0];
    assert_eq!(kernel.initramfs_path.as_deref(), Some("boot/initrd.img-6.12.1-amd64"));
    let report = report_of(Image::plain(), |image| image.file("boot/vmlinuz-6.12.1-amd64", "kernel"));
    assert_eq!(report.engine.requirements.stages, ["apt", "bootloader"]);
}

/// The document names every finding that there is, with its severities, and no other.
#[test]
fn the_document_has_all_findings() {
    let text = include_str!("../../../../docs/inspect.md");
    let rows = text.split("## Findings").nth(1).unwrap().lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<_> = rows
        .flat_map(|row| {
            let (code, rest) = row.split_once("` | ").unwrap();
            let severities = rest.split_once(" | ").unwrap().0.split(", ");
            severities.map(move |severity| format!("{code} {severity}"))
        })
        .collect();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/inspect/findings");
    let mut made = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for severity in ["error", "warning", "note"] {
            for call in source.split(&format!("look.{severity}(")).skip(1) {
                let code = call.split('"').nth(1).unwrap();
                made.insert(format!("{code} {severity}"));
            }
        }
    }
    assert!(made.len() > 60);
    assert_eq!(documented, made);
}

#[test]
fn the_report_keeps_its_keys() {
    let report = serde_json::to_value(Image::composefs().report().unwrap()).unwrap();
    let text = include_str!("../../../../docs/inspect.md");
    let example = text.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let example: serde_json::Value = serde_json::from_str(example).unwrap();
    same_keys(&example, &report, "");
}

/// Each key of the example is in the report and the other way round, as deep as both have objects.
fn same_keys(example: &serde_json::Value, report: &serde_json::Value, path: &str) {
    // These have keys of the image's own.
    if ["/config/labels", "/packages/versions", "/bootc/install", "/bootupd/components"].contains(&path) {
        return;
    }
    match (example, report) {
        (serde_json::Value::Object(example), serde_json::Value::Object(report)) => {
            let keys = |map: &serde_json::Map<String, serde_json::Value>| map.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(example), keys(report), "{path}");
            for (key, value) in example {
                same_keys(value, &report[key], &format!("{path}/{key}"));
            }
        }
        (serde_json::Value::Array(example), serde_json::Value::Array(report)) => {
            if let (Some(example), Some(report)) = (example.first(), report.first()) {
                same_keys(example, report, &format!("{path}[]"));
            }
        }
        _ => {}
    }
}
