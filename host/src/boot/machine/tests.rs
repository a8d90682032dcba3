//! A machine whose QEMU is played by the test, and the command line of a real one.

use super::*;
use crate::vm::console::AFTERMATH;
use crate::vm::qmp::imagined::{self, NO_SPACE, STOP};
use tokio::time::timeout;

/// What QEMU tells, and a process that writes to its standard error and lives on.
async fn qemu(events: &'static [&'static str], state: &'static str) -> (Child, Qmp, Followed) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(imagined::monitor(theirs, events, state));
    let mut command = child::command("sh");
    command.args(["-c", "echo KVM internal error >&2; exec sleep 600"]).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = Followed::new(child.stderr.take().unwrap());
    (child, Qmp::connect(ours).await.unwrap(), stderr)
}

#[tokio::test]
async fn the_reason_of_a_stop_is_found_also_by_whoever_is_interrupted() {
    let (_child, qmp, mut stderr) = qemu(&[STOP], "internal-error").await;
    let mut stop = Stop::default();
    // As by the bytes of a console, which come faster than QEMU answers.
    for _ in 0..3 {
        assert!(timeout(AFTERMATH / 5, Machine::trouble(&qmp, &mut stderr, &mut stop)).await.is_err());
    }
    let error = timeout(AFTERMATH * 20, Machine::trouble(&qmp, &mut stderr, &mut stop)).await.unwrap();
    assert!(
        matches!(&error, BootError::Stopped { state, stderr } if state == "internal-error" && stderr == "KVM internal error"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_disk_that_is_full_on_the_host_is_told() {
    let (_child, qmp, mut stderr) = qemu(&[STOP, NO_SPACE], "io-error").await;
    let error = timeout(AFTERMATH * 20, Machine::trouble(&qmp, &mut stderr, &mut Stop::default())).await.unwrap();
    assert!(matches!(error, BootError::HostDiskFull), "{error:?}");
}

#[tokio::test]
async fn what_qemu_wrote_before_it_died_is_told() {
    // The end of it comes later than the end of the process: what it left has the pipe open.
    let mut command = child::command("sh");
    command.args(["-c", "(sleep 0.2; echo out of cheese >&2) & exit 1"]).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = Followed::new(child.stderr.take().unwrap());
    let error = died(&mut child, &mut stderr).await;
    let BootError::Qemu(child::ChildError::Failed { stderr, .. }) = error else { panic!("{error:?}") };
    assert_eq!(stderr, "out of cheese");
}

/// The values that an option has in `line`.
fn values<'a>(line: &'a [String], option: &str) -> Vec<&'a str> {
    let pairs = line.iter().zip(line.iter().skip(1));
    pairs.filter(|(name, _)| *name == option).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn the_machine_is_sandboxed_and_reaches_no_network() {
    let config = BootConfig {
        qemu: "/usr/bin/qemu-system-x86_64".into(),
        accelerator: Accelerator::Tcg,
        image: "/images/x.raw".into(),
        firmware: Firmware::Bios,
        uefi: None,
        memory_mib: 1024,
        cpus: 2,
        work_dir: "/work".into(),
        timeout: None,
    };
    for test in [None, Some((5, 6))] {
        let descriptors = Descriptors { monitor: 3, console: 4, test };
        let line = arguments(&config, &Image::imagined(), "/work/o".as_ref(), "/work/v".as_ref(), &descriptors);
        assert_eq!(
            values(&line, "-sandbox"),
            ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
        );
        assert_eq!(values(&line, "-netdev"), ["user,id=net,restrict=on"]);
        for alone in ["-nodefaults", "-no-user-config"] {
            assert!(line.iter().any(|argument| argument == alone), "{alone} in {line:?}");
        }
        // No other way to a network than that one.
        let cards: Vec<_> = values(&line, "-device").into_iter().filter(|device| device.contains("net")).collect();
        assert!(matches!(cards[..], [card] if card.contains("\"netdev\":\"net\"")), "{cards:?}");
        assert!(!line.iter().any(|argument| ["-nic", "-net", "-virtfs", "-usb"].contains(&argument.as_str())));
    }
}
