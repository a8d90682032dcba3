//! `/var`: what is in it reaches a machine only when that is installed, and never with an update. So all of it is made by
//! systemd-tmpfiles(8) where it is missing: folders and links as lines of a file in `/usr/lib/tmpfiles.d`, and files from
//! copies in `/usr/share/factory` (tmpfiles.d(5), `C`).

use crate::tree::Tree;
use nix::sys::stat::{FileStat, SFlag};
use particle_vm_protocol::Failure;
use std::collections::BTreeSet;

/// The lines.
const LINES: &str = "/usr/lib/tmpfiles.d/particle-vm-var.conf";

/// Where the lines of packages are.
const FOLDER: &str = "/usr/lib/tmpfiles.d";

/// Where `C` takes its copies from when a line names no other place.
const FACTORY: &str = "/usr/share/factory";

/// Take the files out of `/var`, and write down what makes it anew.
pub(super) fn settle(tree: &Tree) -> Result<(), Failure> {
    let known = known(tree)?;
    let mut lines = String::from("# What packages and stages have put into /var.\n");
    visit(tree, "/var", &known, &mut lines)?;
    Ok(tree.write(LINES, lines, 0o644)?)
}

/// The paths that packages have lines for.
fn known(tree: &Tree) -> Result<BTreeSet<String>, Failure> {
    let mut known = BTreeSet::new();
    for name in tree.names(FOLDER)?.iter().filter(|name| name.ends_with(".conf")) {
        let text = tree.read_text(&format!("{FOLDER}/{name}"))?;
        known.extend(text.lines().filter_map(|line| {
            let mut fields = line.split_whitespace();
            // Only types that make what they name.
            let makes = fields.next()?.starts_with(['d', 'D', 'q', 'Q', 'v', 'f', 'F', 'L', 'C']);
            fields.next().filter(|_| makes).map(str::to_owned)
        }));
    }
    Ok(known)
}

fn visit(tree: &Tree, folder: &str, known: &BTreeSet<String>, lines: &mut String) -> Result<(), Failure> {
    for name in tree.names(folder)? {
        let path = format!("{folder}/{name}");
        let Some(stat) = tree.lstat(&path) else { continue };
        let line = match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
            SFlag::S_IFDIR => {
                let line = owned('d', &path, &stat, "-");
                if !known.contains(&path) {
                    *lines += &line;
                }
                visit(tree, &path, known, lines)?;
                continue;
            }
            SFlag::S_IFREG => {
                tree.rename(&path, &format!("{FACTORY}{path}"))?;
                owned('C', &path, &stat, "- -")
            }
            SFlag::S_IFLNK => {
                let target = tree.link_target(&path).unwrap_or_default();
                format!("L {} - - - - {}\n", field(&path), field(&target.to_string_lossy()))
            }
            // Pipes and sockets are made by who uses them.
            _ => {
                tree.remove(&path)?;
                continue;
            }
        };
        if !known.contains(&path) {
            *lines += &line;
        }
    }
    Ok(())
}

/// A line for what belongs to someone. By numbers, so that nobody has to be known when it is made.
fn owned(kind: char, path: &str, stat: &FileStat, rest: &str) -> String {
    format!("{kind} {} {:04o} {} {} {rest}\n", field(path), stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

/// A field: `%` begins a specifier, and what would end it is quoted.
fn field(text: &str) -> String {
    let text = text.replace('%', "%%");
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '\\')) {
        let escaped: String = text
            .chars()
            .map(|c| match c {
                '"' | '\\' => format!("\\{c}"),
                c if c.is_control() => c.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
                c => c.to_string(),
            })
            .collect();
        format!("\"{escaped}\"")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Folder;
    use nix::unistd::Uid;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn var_can_be_made_anew() {
        if !Uid::current().is_root() {
            // What is made in a tree belongs to root.
            return;
        }
        let folder = Folder::new("bootc-var");
        let at = |path: &str| folder.path().join(path);
        for path in ["var/lib/apt", "var/cache/known", "usr/lib/tmpfiles.d"] {
            fs::create_dir_all(at(path)).unwrap();
            fs::set_permissions(at(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for path in ["var", "var/lib", "var/cache"] {
            fs::set_permissions(at(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(at("usr/lib/tmpfiles.d/x.conf"), "# d /var/lib 1\nd /var/cache/known 0755\n").unwrap();
        fs::write(at("var/lib/apt/a 100%"), "state").unwrap();
        fs::set_permissions(at("var/lib/apt/a 100%"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("../run", at("var/run")).unwrap();
        settle(&Tree::open(folder.path()).unwrap()).unwrap();
        assert_eq!(
            fs::read_to_string(at("usr/lib/tmpfiles.d/particle-vm-var.conf")).unwrap(),
            "# What packages and stages have put into /var.\n\
             d /var/cache 0755 0 0 -\n\
             d /var/lib 0755 0 0 -\n\
             d /var/lib/apt 0755 0 0 -\n\
             C \"/var/lib/apt/a 100%%\" 0640 0 0 - -\n\
             L /var/run - - - - ../run\n"
        );
        assert_eq!(fs::read_to_string(at("usr/share/factory/var/lib/apt/a 100%")).unwrap(), "state");
        assert!(!at("var/lib/apt/a 100%").exists());
    }

    #[test]
    fn a_field_ends_where_it_should() {
        assert_eq!(field("/var/a"), "/var/a");
        assert_eq!(field("/var/a b\"c\n"), "\"/var/a b\\\"c\\x0a\"");
    }
}
