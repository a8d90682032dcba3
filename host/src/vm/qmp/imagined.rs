//! A monitor that is played by the test.

#![allow(clippy::unwrap_used, reason = "a fixture that is wrong ends the test")]

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

const GREETING: &str =
    r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}"#;

/// The machine stands still.
pub const STOP: &str = r#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 1}}"#;

/// The disk `scratch` cannot be written for want of space, as QEMU 10.0 tells it.
pub const NO_SPACE: &str = r#"{"event": "BLOCK_IO_ERROR", "timestamp": {"seconds": 1, "microseconds": 1}, "data": {
    "device": "", "node-name": "scratch", "qom-path": "/machine/peripheral/scratch/virtio-backend",
    "operation": "write", "action": "stop", "nospace": true, "reason": "No space left on device"}}"#;

/// The disk `target` cannot be written for another reason.
pub const BAD_DISK: &str = r#"{"event": "BLOCK_IO_ERROR", "timestamp": {"seconds": 1, "microseconds": 1}, "data": {
    "device": "", "node-name": "target", "qom-path": "/machine/peripheral/target/virtio-backend",
    "operation": "write", "action": "stop", "nospace": false, "reason": "Input/output error"}}"#;

/// Tell of `events`, and then say `state` whenever somebody asks.
pub async fn monitor(stream: UnixStream, events: &'static [&'static str], state: &'static str) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(format!("{GREETING}\n").as_bytes()).await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: serde_json::Value = serde_json::from_str(&line).unwrap();
        let id = &request["id"];
        let answer = match request["execute"].as_str().unwrap() {
            "qmp_capabilities" => {
                let events = events.iter().map(|event| event.replace('\n', " ") + "\n").collect::<String>();
                format!("{{\"return\": {{}}, \"id\": {id}}}\n{events}")
            }
            "query-status" => {
                let running = state == "running";
                format!("{{\"return\": {{\"running\": {running}, \"status\": \"{state}\"}}, \"id\": {id}}}\n")
            }
            _ => format!("{{\"return\": {{}}, \"id\": {id}}}\n"),
        };
        // Whoever asked may have gone.
        let _ = write.write_all(answer.as_bytes()).await;
    }
}
