use super::*;
use std::os::unix::fs::PermissionsExt;

fn version(major: u32, minor: u32, micro: u32) -> Version {
    Version { major, minor, micro }
}

#[test]
fn versions_of_distributions_are_read() {
    let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)";
    assert_eq!(Version::parse(debian), Some(version(10, 0, 2)));
    assert_eq!(Version::parse("QEMU emulator version 7.2.17"), Some(version(7, 2, 17)));
    assert_eq!(Version::parse("QEMU emulator version 9.1.0-rc3 (v9.1)"), Some(version(9, 1, 0)));
    assert_eq!(Version::parse("QEMU emulator version 11.1"), Some(version(11, 1, 0)));
    assert_eq!(Version::parse("qemu: command not found"), None);
    assert_eq!(Version::parse("QEMU emulator version ten"), None);
}

#[test]
fn versions_have_an_order() {
    assert!(version(7, 2, 17) < OLDEST_TCG && version(7, 2, 17) >= OLDEST_KVM);
    assert!(version(10, 0, 0) >= OLDEST_TCG);
    assert!(version(7, 1, 9) < OLDEST_KVM);
}

#[test]
fn only_what_can_be_executed_is_found() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, mode) in [(&first, 0o644), (&second, 0o755)] {
        let file = dir.path().join(PROGRAM);
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = std::env::join_paths([first.path(), second.path()]).unwrap();
    assert_eq!(find(&path), Some(second.path().join(PROGRAM)));
    assert_eq!(find(first.path().as_os_str()), None);
}

fn hypervisor(version: Version, wish: Wish, facts: &Path) -> Hypervisor {
    let (program, events) = (PathBuf::from(PROGRAM), Events::none());
    Hypervisor(Arc::new(Inner { program, version, wish, facts: facts.into(), events, warned: false.into() }))
}

#[test]
fn an_unusable_kvm_is_tried_once() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("vmlinux");
    std::fs::write(&kernel, "").unwrap();
    let auto = hypervisor(version(10, 0, 2), Wish::Kvm { required: false }, dir.path());
    assert_eq!(auto.choose(&kernel).unwrap(), Choice::Prove);
    assert_eq!(auto.disproved(&kernel, "emulation failure".into()).unwrap(), Accelerator::Tcg);
    assert_eq!(auto.choose(&kernel).unwrap(), Choice::Settled(Accelerator::Tcg));
    let required = hypervisor(version(10, 0, 2), Wish::Kvm { required: true }, dir.path());
    assert!(matches!(required.choose(&kernel).unwrap_err(), HypervisorError::NoKvm(NoKvm::Unusable(_))));
    required.proved(&kernel);
    assert_eq!(required.choose(&kernel).unwrap(), Choice::Settled(Accelerator::Kvm));
}

#[test]
fn a_doubt_does_not_keep_those_from_kvm_who_ask_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("vmlinux");
    std::fs::write(&kernel, "").unwrap();
    let auto = hypervisor(version(10, 0, 2), Wish::Kvm { required: false }, dir.path());
    auto.doubted(&kernel, "the VM did not come up within 15 s".into());
    assert_eq!(auto.choose(&kernel).unwrap(), Choice::Settled(Accelerator::Tcg));
    let required = hypervisor(version(10, 0, 2), Wish::Kvm { required: true }, dir.path());
    assert_eq!(required.choose(&kernel).unwrap(), Choice::Prove);
}

#[test]
fn an_old_qemu_does_not_fall_back_to_emulation() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("vmlinux");
    let old = hypervisor(version(7, 2, 0), Wish::Kvm { required: false }, dir.path());
    let error = old.disproved(&kernel, "emulation failure".into()).unwrap_err();
    assert!(error.advice().is_some_and(|advice| advice.contains("bookworm-backports")), "{error}");
}
