//! `/var`: what is in it reaches a machine only when that is installed, and never with an update. So all of it is made by
//! systemd-tmpfiles(8) where it is missing: folders and links as lines of a file in `/usr/lib/tmpfiles.d`, and files from
//! copies in `/usr/share/factory` (tmpfiles.d(5), `C`).

use crate::tree::{Attributes, Tree};
use nix::sys::stat::{FileStat, SFlag};
use particle_vm_protocol::Failure;
use std::collections::{BTreeMap, BTreeSet};

/// The lines.
const LINES: &str = "/usr/lib/tmpfiles.d/particle-vm-var.conf";

/// Where the lines of packages are.
const FOLDER: &str = "/usr/lib/tmpfiles.d";

/// Where `C` takes its copies from when a line names no other place.
const FACTORY: &str = "/usr/share/factory";

/// What the file of lines begins with.
const HEAD: &str = "# What packages and stages have put into /var.\n";

/// Take the files out of `/var`, and write down what makes it anew. What an earlier run has written down stays, unless the
/// same path is there again.
pub(super) fn settle(tree: &Tree) -> Result<(), Failure> {
    let mut var = Var { tree, known: known(tree)?, lines: earlier(tree)? };
    var.visit("/var")?;
    let lines: String = var.lines.into_values().collect();
    Ok(tree.write(LINES, format!("{HEAD}{lines}"), 0o644)?)
}

/// The paths that packages have lines for.
fn known(tree: &Tree) -> Result<BTreeSet<String>, Failure> {
    let mut known = BTreeSet::new();
    let names = tree.names(FOLDER)?;
    let paths = names.iter().filter(|name| name.ends_with(".conf")).map(|name| format!("{FOLDER}/{name}"));
    for path in paths.filter(|path| path != LINES) {
        let text = tree.read_text(&path)?;
        known.extend(text.lines().filter_map(|line| {
            let mut fields = line.split_whitespace();
            // Only types that make what they name.
            let makes = fields.next()?.starts_with(['d', 'D', 'q', 'Q', 'v', 'f', 'F', 'L', 'C']);
            fields.next().filter(|_| makes).map(str::to_owned)
        }));
    }
    Ok(known)
}

/// The lines of an earlier run, by their paths as they are written there.
fn earlier(tree: &Tree) -> Result<BTreeMap<String, String>, Failure> {
    let text = if tree.is_file(LINES) { tree.read_text(LINES)? } else { String::new() };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.filter_map(|line| Some((written_path(line)?.to_owned(), format!("{line}\n")))).collect())
}

/// The second field of a line that [`field`] has written.
fn written_path(line: &str) -> Option<&str> {
    let rest = line.split_once(' ')?.1;
    let Some(quoted) = rest.strip_prefix('"') else { return rest.split(' ').next() };
    let mut escaped = false;
    let end = quoted.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some(&rest[..end + 2])
}

/// `/var` of a tree, and the lines that make it anew.
struct Var<'a> {
    tree: &'a Tree,
    known: BTreeSet<String>,
    lines: BTreeMap<String, String>,
}

impl Var<'_> {
    fn visit(&mut self, folder: &str) -> Result<(), Failure> {
        for name in self.tree.names(folder)? {
            let path = format!("{folder}/{name}");
            let Some(stat) = self.tree.lstat(&path) else { continue };
            match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
                SFlag::S_IFDIR => {
                    self.line(&path, owned('d', &path, &stat, "-"));
                    self.visit(&path)?;
                }
                SFlag::S_IFREG => {
                    let copy = format!("{FACTORY}{path}");
                    self.factory(folder)?;
                    self.tree.remove(&copy)?;
                    self.tree.rename(&path, &copy)?;
                    self.line(&path, owned('C', &path, &stat, "- -"));
                }
                SFlag::S_IFLNK => {
                    let leads_to = self.tree.link_target(&path).unwrap_or_default();
                    let line = format!("L {} - - - - {}\n", field(&path), target(&leads_to.to_string_lossy()));
                    self.line(&path, line);
                }
                // Pipes and sockets are made by who uses them.
                _ => self.tree.remove(&path)?,
            }
        }
        Ok(())
    }

    fn line(&mut self, path: &str, line: String) {
        if !self.known.contains(path) {
            self.lines.insert(field(path), line);
        }
    }

    /// The folder for copies of what is in `folder`: nobody sees there what he could not see here.
    fn factory(&self, folder: &str) -> Result<(), Failure> {
        for (end, _) in folder.match_indices('/').skip(1).chain([(folder.len(), "")]) {
            let Some(stat) = self.tree.lstat(&folder[..end]) else { continue };
            let attributes = Attributes { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid };
            self.tree.make_folder(&format!("{FACTORY}{}", &folder[..end]), attributes)?;
        }
        Ok(())
    }
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

/// Where a link leads: the rest of a line is taken as it is, but for specifiers and escapes.
fn target(text: &str) -> String {
    let escape = |c: char| match c {
        '%' => "%%".to_owned(),
        '\\' => "\\\\".to_owned(),
        c if c.is_control() => c.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
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
        fs::set_permissions(at("var/lib/apt"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("../run 100%", at("var/run")).unwrap();
        settle(&Tree::open(folder.path()).unwrap()).unwrap();
        let lines = || fs::read_to_string(at("usr/lib/tmpfiles.d/particle-vm-var.conf")).unwrap();
        let first = "# What packages and stages have put into /var.\n\
                     C \"/var/lib/apt/a 100%%\" 0640 0 0 - -\n\
                     d /var/cache 0755 0 0 -\n\
                     d /var/lib 0755 0 0 -\n\
                     d /var/lib/apt 0700 0 0 -\n\
                     L /var/run - - - - ../run 100%%\n";
        assert_eq!(lines(), first);
        let copy = at("usr/share/factory/var/lib/apt/a 100%");
        assert_eq!(fs::read_to_string(&copy).unwrap(), "state");
        assert!(!at("var/lib/apt/a 100%").exists());
        let mode = |path: &str| fs::metadata(at(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("usr/share/factory/var/lib/apt"), mode("usr/share/factory/var/lib")), (0o700, 0o755));

        // Once more, with a file that is there again.
        fs::write(at("var/lib/apt/a 100%"), "newer").unwrap();
        fs::set_permissions(at("var/lib/apt/a 100%"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(at("var/run")).unwrap();
        settle(&Tree::open(folder.path()).unwrap()).unwrap();
        assert_eq!(lines(), first.replace("0640", "0600"));
        assert_eq!(fs::read_to_string(&copy).unwrap(), "newer");
    }

    #[test]
    fn a_field_ends_where_it_should() {
        assert_eq!(field("/var/a"), "/var/a");
        assert_eq!(field("/var/a b\"c\n"), "\"/var/a b\\\"c\\x0a\"");
        assert_eq!(written_path("C \"/var/a b\\\"c\\x0a\" 0640 0 0 - -"), Some("\"/var/a b\\\"c\\x0a\""));
        assert_eq!(written_path("d /var/a 0755 0 0 -"), Some("/var/a"));
    }
}
