//! A machine whose QEMU is played by the test.

use super::*;
use crate::error::{Class, Classify};
use crate::vm::Hypervisor;
use crate::vm::qmp::imagined::{self, BAD_DISK, NO_SPACE, STOP};

/// A machine whose QEMU tells of `events` and is then in `state`.
pub async fn machine(events: &'static [&'static str], state: &'static str) -> Machine {
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(imagined::monitor(theirs, events, state));
    let mut command = child::command("sh");
    command.args(["-c", "echo KVM internal error >&2; exec sleep 600"]).stderr(Stdio::piped());
    let mut qemu = command.spawn().unwrap();
    let stderr = Followed::new(qemu.stderr.take().unwrap());
    Machine {
        qemu,
        qmp: Qmp::connect(ours).await.unwrap(),
        stderr,
        console: Followed::new(tokio::io::empty()),
        servers: Vec::new(),
        network: None,
        disks: vec![("scratch".into(), "/work/scratch.raw".into()), ("target".into(), "/out/x.raw".into())],
        shutdown: None,
        stop: Stop::default(),
    }
}

#[tokio::test]
async fn the_reason_of_a_stop_is_found_also_by_whoever_is_interrupted() {
    let mut machine = machine(&[STOP], "internal-error").await;
    // Too short to hear what QEMU has written, as QEMU lives on.
    for _ in 0..3 {
        assert!(timeout(AFTERMATH / 5, machine.trouble()).await.is_err());
    }
    let error = timeout(AFTERMATH * 20, machine.trouble()).await.unwrap();
    assert!(
        matches!(&error, VmError::Stopped { state, stderr } if state == "internal-error" && stderr == "KVM internal error"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_qemu_that_says_nothing_of_its_end_may_still_end_well() {
    let mut silent = machine(&[STOP], "running").await;
    silent.qemu = child::command("true").spawn().unwrap();
    silent.switched_off().await.unwrap();
    silent.qemu = child::command("false").spawn().unwrap();
    assert!(matches!(silent.switched_off().await.unwrap_err(), VmError::QemuDied { .. }));
}

#[tokio::test]
async fn a_stop_that_has_passed_is_no_trouble() {
    let mut machine = machine(&[STOP], "running").await;
    assert!(timeout(AFTERMATH, machine.trouble()).await.is_err());
}

#[tokio::test]
async fn a_disk_that_is_full_on_the_host_is_named() {
    let mut full = machine(&[NO_SPACE, STOP], "io-error").await;
    let error = timeout(AFTERMATH * 20, full.trouble()).await.unwrap();
    assert!(matches!(&error, VmError::HostDiskFull { path } if path == Path::new("/work/scratch.raw")), "{error:?}");
    assert_eq!(error.to_string(), "the file system of /work/scratch.raw is full");
    assert!(error.advice().is_some_and(|advice| advice.contains("--work-dir")));
    let mut bad = machine(&[BAD_DISK, STOP], "io-error").await;
    let error = timeout(AFTERMATH * 20, bad.trouble()).await.unwrap();
    assert!(
        matches!(&error, VmError::HostDisk { path, reason } if path == Path::new("/out/x.raw") && reason == "Input/output error"),
        "{error:?}"
    );
    assert_eq!(error.class(), Class::Host);
}

#[tokio::test]
async fn a_disk_that_is_full_is_named_also_when_qemu_dies_of_it() {
    let mut machine = machine(&[NO_SPACE, STOP], "io-error").await;
    // Looked at before the incident, as when both are there at once.
    machine.qemu = child::command("false").spawn().unwrap();
    let status = machine.qemu.wait().await.unwrap();
    let error = machine.post_mortem(status).await;
    assert!(matches!(error, VmError::HostDiskFull { .. }), "{error:?}");
}

/// A QEMU that copies the files `from` to its standard error, and says so when it cannot.
async fn copied(from: &[&Path], config: &mut VmConfig, dir: &Path) -> String {
    let program = dir.join("qemu");
    // Not written in place: a thread that forks at this moment would keep it open, and busy.
    let names = from.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    let script = format!("for file in {names}; do cat $file >&2 || echo no >&2; done; echo \"secret: $SECRET\" >&2");
    let mut write = child::command("sh");
    write.args(["-c", "printf '%s\\n' '#!/bin/sh' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", &script]).arg(&program);
    child::run(write, AFTERMATH * 60).await.unwrap();
    config.hypervisor = Hypervisor::played_by(program);
    let channels = Channels { monitor: 3, console: 4, control: 5, network: None, shares: Vec::new() };
    let mut child = qemu(config, Accelerator::Tcg, &channels).unwrap().spawn().unwrap();
    let mut stderr = Followed::new(child.stderr.take().unwrap());
    child.wait().await.unwrap();
    stderr.finished().await
}

#[tokio::test]
async fn qemu_reads_what_the_vm_is_made_of_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (bin, cache, work) = (dir.path().join("bin"), dir.path().join("cache"), dir.path().join("work"));
    for folder in [&bin, &cache, &work] {
        std::fs::create_dir(folder).unwrap();
    }
    let (kernel, other) = (cache.join("vmlinux"), dir.path().join("other"));
    std::fs::write(&kernel, "the kernel\n").unwrap();
    std::fs::write(&other, "a key\n").unwrap();
    let mut config = VmConfig { kernel: kernel.clone(), workspace: work, ..crate::vm::config::tests::config() };
    let said = copied(&[&kernel, &other], &mut config, &bin).await;
    assert!(said.starts_with("the kernel\n"), "{said}");
    assert!(said.ends_with("secret:"), "{said}");
    // A kernel without Landlock lets it pass, which is not what is tested here.
    assert_eq!(said.contains("a key"), !confine::is_enforced(), "{said}");
}

#[tokio::test]
async fn a_guest_that_fills_its_share_is_ended_in_words() {
    let mut machine = machine(&[], "running").await;
    let dir = tempfile::tempdir().unwrap();
    machine.servers.push(virtiofs::Running::imagined(dir.path(), 1 << 20));
    assert!(timeout(AFTERMATH * 4, machine.trouble()).await.is_err());
    std::fs::write(dir.path().join("much"), vec![b'x'; 2 << 20]).unwrap();
    let error = timeout(AFTERMATH * 60, machine.trouble()).await.unwrap();
    assert!(matches!(&error, VmError::ShareFull { folder } if folder == dir.path()), "{error:?}");
    assert_eq!(error.class(), Class::Build);
    assert!(error.to_string().ends_with("than it may: 256.0 MiB and 16384 files"), "{error}");
}
