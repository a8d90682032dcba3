//! A machine whose QEMU is played by the test.

use super::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

const GREETING_LINE: &str =
    r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}"#;
const STOP: &str = r#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 1}}"#;

/// A monitor that tells of a stop and then says `state` whenever it is asked.
async fn monitor(stream: UnixStream, state: &'static str) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(format!("{GREETING_LINE}\n").as_bytes()).await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: serde_json::Value = serde_json::from_str(&line).unwrap();
        let id = &request["id"];
        let answer = match request["execute"].as_str().unwrap() {
            "qmp_capabilities" => format!("{{\"return\": {{}}, \"id\": {id}}}\n{STOP}\n"),
            _ => format!("{{\"return\": {{\"running\": false, \"status\": \"{state}\"}}, \"id\": {id}}}\n"),
        };
        write.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn machine(state: &'static str) -> Machine {
    let (ours, theirs) = UnixStream::pair().unwrap();
    tokio::spawn(monitor(theirs, state));
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
        disks: Vec::new(),
        shutdown: None,
        stopped: false,
    }
}

#[tokio::test]
async fn the_reason_of_a_stop_is_found_also_by_whoever_is_interrupted() {
    let mut machine = machine("internal-error").await;
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
    let mut silent = machine("running").await;
    silent.qemu = child::command("true").spawn().unwrap();
    silent.switched_off().await.unwrap();
    silent.qemu = child::command("false").spawn().unwrap();
    assert!(matches!(silent.switched_off().await.unwrap_err(), VmError::QemuDied { .. }));
}

#[tokio::test]
async fn a_stop_that_has_passed_is_none() {
    let mut machine = machine("running").await;
    assert!(timeout(AFTERMATH, machine.trouble()).await.is_err());
    assert!(!machine.stopped);
}
