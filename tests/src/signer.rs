//! The key that signs the mirror, and gpg, which signs with it.

use crate::mirror::{made, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The key that signs the mirror.
pub fn keyring() -> Vec<u8> {
    std::fs::read(signer().join("tiny.gpg")).unwrap()
}

/// Sign the index `release` as `signed`, with the text in it.
pub(crate) fn sign(release: &Path, signed: &Path) {
    let home = signer();
    run(gpg(home).arg("--clearsign").arg("--output").arg(signed).arg(release));
    end_agent(home);
}

/// The home of gpg, with the key and `tiny.gpg`, its public half.
fn signer() -> &'static Path {
    static SIGNER: OnceLock<PathBuf> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let home = made().join("gnupg");
        std::fs::create_dir(&home).unwrap();
        std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        run(gpg(&home).args(["--passphrase", "", "--quick-gen-key", "tests@example.org", "ed25519", "sign", "never"]));
        run(gpg(&home).arg("--export").arg("--output").arg(home.join("tiny.gpg")));
        end_agent(&home);
        home
    })
}

fn gpg(home: &Path) -> Command {
    let mut gpg = Command::new("gpg");
    gpg.env("GNUPGHOME", home).args(["--batch", "--quiet"]);
    gpg
}

/// What gpg has started goes on otherwise when the tests have ended. It ends a moment after it was told to, and the next
/// gpg that finds its socket until then is cut off in the middle.
fn end_agent(home: &Path) {
    let gpgconf = |arguments: &[&str]| run(Command::new("gpgconf").env("GNUPGHOME", home).args(arguments));
    let socket = gpgconf(&["--list-dirs", "agent-socket"]);
    let _ = gpgconf(&["--kill", "gpg-agent"]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while Path::new(socket.trim_end()).exists() {
        assert!(Instant::now() < deadline, "gpg-agent does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}
