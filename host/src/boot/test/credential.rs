//! How a shell gets into an image that has nothing of ours in it.
//!
//! systemd takes credentials from SMBIOS strings of type 11 (systemd.system-credentials(7)), from version 252 on. The
//! one called `tmpfiles.extra` holds lines for systemd-tmpfiles(8), which writes with them, into `/run` alone:
//! - a unit for the shell,
//! - a link that has the device of the shell's port want this unit,
//! - a word to the second serial port, by links that lead to it in a system only.
//!
//! In an initramfs that systemd runs, the same happens, and the word must not come: there is nothing to test yet.
//!
//! At the word the host plugs the port in. Its device is new to systemd, so that systemd reads the link and starts the
//! unit; the unit itself waits for `multi-user.target`. Nothing in the boot waits for any of it.
//!
//! Credentials for whole units (`systemd.extra-unit.*`) came with systemd 256 only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Name of the virtio-serial port that the shell reads from and writes to.
pub(super) const PORT: &str = "org.particle-vm.test";

/// Links to `/dev`, and where they lead. systemd-tmpfiles(8) takes care of `/dev` in a run of its own, long before it
/// writes the unit, so the path must not be beneath it. And where systemd runs in the initramfs too, it has the same
/// credentials there: the links lead nowhere then, because an initramfs has neither folder.
///
/// Every system has a `/boot`; but systemd-gpt-auto-generator(8) may mount it when it is first looked into, and
/// systemd-tmpfiles goes through no such place. The word may come twice.
const LINKS: [(&str, &str); 2] =
    [("/run/particle-vm-boot", "/boot/../dev"), ("/run/particle-vm-media", "/media/../dev")];

/// The second serial port, in `/dev`.
const SERIAL: &str = "ttyS1";

/// What comes over the second serial port when the unit and the link are in place.
pub(super) const READY: &str = "particle-vm: ready";

/// The unit. `Type=simple`, because the boot counts as finished only when no job is left.
const UNIT: &str = "\
[Unit]
Description=Tests of particle-vm
After=multi-user.target
[Service]
Type=simple
WorkingDirectory=/
Environment=HOME=/root
ExecStart=/bin/sh -c \"exec /bin/sh <>/dev/virtio-ports/PORT >&0 2>&1\"
";

/// The value for QEMU's `-smbios type=11,value=`. It has no comma, which QEMU would want doubled.
pub(in crate::boot) fn smbios_value() -> String {
    format!("io.systemd.credential.binary:tmpfiles.extra={}", STANDARD.encode(tmpfiles()))
}

fn tmpfiles() -> String {
    let unit = "particle-vm-test.service";
    let wants = format!("/run/systemd/system/{}.device.wants", device_unit(&format!("dev/virtio-ports/{PORT}")));
    let wants = wants.replace('\\', "\\\\");
    let content = argument(&UNIT.replace("PORT", PORT));
    let word = argument(&format!("{READY}\n"));
    format!(
        "f+ /run/systemd/system/{unit} 0644 root root - {content}\n\
         d {wants} 0755 root root - -\n\
         L {wants}/{unit} - - - - ../{unit}\n\
         {}",
        LINKS.map(|(link, target)| format!("L {link} - - - - {target}\nw {link}/{SERIAL} - - - - {word}\n")).concat()
    )
}

/// A text as the argument of a line of tmpfiles.d(5): specifiers and C escapes are undone there.
fn argument(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "%%").replace('\n', "\\n")
}

/// The name of a device's unit, after systemd.unit(5), "String escaping for inclusion in unit names".
fn device_unit(path: &str) -> String {
    let escape = |byte: u8| match byte {
        b'/' => "-".to_owned(),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b':' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("\\x{other:02x}"),
    };
    path.bytes().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_as_systemd_names_them() {
        assert_eq!(
            device_unit("dev/virtio-ports/org.particle-vm.test"),
            r"dev-virtio\x2dports-org.particle\x2dvm.test"
        );
    }

    #[test]
    fn each_line_is_one_line() {
        let text = tmpfiles();
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(text.contains(r"\\x2dports-org"), "{text}");
        assert!(text.contains(r"After=multi-user.target\n[Service]"), "{text}");
    }

    #[test]
    fn the_value_survives_the_command_line_of_qemu() {
        assert!(!smbios_value().contains(','));
    }
}
