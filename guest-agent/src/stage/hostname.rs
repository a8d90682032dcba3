//! `hostname`: the name of the system.

use super::Site;
use crate::report::Explain;
use crate::tree::Tree;
use nix::unistd::sethostname;
use particle_vm_protocol::stage::Hostname;
use particle_vm_protocol::{Failure, FailureKind};

/// hosts(5).
const HOSTS: &str = "/etc/hosts";

/// What a system without the file needs.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\n\
                         ff02::2\tip6-allrouters\n";

/// Have `localhost` resolve. The package `netbase` would, and small trees are without it.
pub(super) fn ensure_localhost(tree: &Tree) -> Result<(), Failure> {
    if !tree.exists(HOSTS) {
        tree.write(HOSTS, LOCALHOST, 0o644)?;
    }
    Ok(())
}

/// Write hostname(5) and hosts(5), and give the machine of the build the name too: scripts of packages ask for it and
/// write it into configuration files and certificates.
pub(super) fn perform(site: &mut Site<'_>, options: &Hostname) -> Result<(), Failure> {
    let tree = site.tree()?;
    let hosts = hosts(&tree.read_text(HOSTS)?, &options.hostname);
    tree.write("/etc/hostname", format!("{}\n", options.hostname), 0o644)?;
    tree.write(HOSTS, hosts, 0o644)?;
    sethostname(&options.hostname).explain(FailureKind::Agent, || "cannot set the host name of the build")
}

/// The hosts file with the name at the address that Debian uses for it (Debian Reference, 5.1.1).
fn hosts(before: &str, hostname: &str) -> String {
    let short = hostname.split('.').next().unwrap_or(hostname);
    let names = if short == hostname { hostname.to_owned() } else { format!("{hostname} {short}") };
    let own = format!("127.0.1.1\t{names}");
    let before = if before.trim().is_empty() { LOCALHOST } else { before };
    let is_own = |line: &&str| line.split_ascii_whitespace().next() == Some("127.0.1.1");
    let mut lines: Vec<_> = before.lines().filter(|line| !is_own(line)).collect();
    let after = lines.iter().position(|line| line.starts_with("127.0.0.1")).map_or(0, |position| position + 1);
    lines.insert(after, &own);
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_stands_after_localhost() {
        assert_eq!(
            hosts("127.0.0.1\tlocalhost\n::1\tlocalhost\n", "a"),
            "127.0.0.1\tlocalhost\n127.0.1.1\ta\n::1\tlocalhost\n"
        );
    }

    #[test]
    fn a_name_before_is_replaced() {
        let before = "127.0.0.1 localhost\n127.0.1.1 old\n";
        assert_eq!(hosts(before, "new.example.org"), "127.0.0.1 localhost\n127.0.1.1\tnew.example.org new\n");
    }

    #[test]
    fn a_missing_file_gets_localhost() {
        assert!(hosts("", "a").starts_with("127.0.0.1\tlocalhost\n127.0.1.1\ta\n::1"));
    }
}
