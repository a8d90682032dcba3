//! The stages that write files and run scripts.

use super::partition::{MOUNTED_ELSEWHERE, is_or_below};
use super::{Checker, names};
use crate::recipe::path::Path;
use crate::recipe::sections::Sections;
use particle_vm_protocol::Stage;
use particle_vm_protocol::stage::{Copy, Files, Run};
use std::collections::BTreeMap;

const OWNER: &str = "a name of the image, or a number";
const MODE: &str = "permissions are octal digits, like `0644` or `0755`";

/// Folders that Debian's base-files and the merged `/usr` make sure of.
const FOLDERS: [&str; 21] = [
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root", "/run",
    "/sbin", "/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/var",
];

/// The stage `files`: names, modes and owners, and no file that would have to lie in another.
pub fn files(checker: &mut Checker<'_>, path: &Path, options: &Files) {
    let list = path.key("files");
    if options.files.is_empty() {
        checker.advise(&list, "`files` is empty", "name a file, or remove the stage");
    }
    for (name, file) in &options.files {
        let path = list.key(name);
        if !names::absolute(name) || name.ends_with('/') {
            checker.advise_key(
                &path,
                format!("`{name}` is not an absolute path of a file"),
                "for instance `/etc/motd`",
            );
        } else if FOLDERS.contains(&name.as_str()) {
            checker.advise_key(&path, format!("`{name}` is a folder of every Debian system"), "name a file in it");
        } else if let Some((other, _)) =
            options.files.range(format!("{name}/")..).next().filter(|(other, _)| is_or_below(other, &[name]))
        {
            let message = format!("`{name}` is a file, so that `{other}` cannot lie in it");
            checker.advise_key(&path, message, "keep one of them");
        }
        lost(checker, &path, name);
        mode(checker, &path.key("mode"), &file.mode);
        owners(checker, &path, &file.owner, &file.group);
    }
}

/// Files of one stage that would have to lie in a file of another. A script between the two may make room.
pub fn across(checker: &mut Checker<'_>, sections: &Sections) {
    let mut earlier: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, section) in sections.stages.iter().enumerate() {
        let files = match section.known().map(|stage| &stage.stage) {
            Some(Stage::Files(options)) => &options.files,
            Some(Stage::Run(_)) | None => {
                earlier.clear();
                continue;
            }
            Some(_) => continue,
        };
        let list = Path::root().key("stages").index(index).key("options").key("files");
        for name in files.keys() {
            let above = name.match_indices('/').filter_map(|(end, _)| earlier.get_key_value(&name[..end])).next();
            let inside = format!("{name}/");
            let below = earlier.range(inside.as_str()..).next();
            let below = below.filter(|(other, _)| is_or_below(other, &[name]));
            let conflict = above.map(|(other, stage)| (*other, name.as_str(), stage));
            if let Some((file, beneath, stage)) =
                conflict.or(below.map(|(other, stage)| (name.as_str(), *other, stage)))
            {
                let message = format!("`{file}` is a file, so that `{beneath}` cannot lie in it");
                let help = format!("the other one is in stage {}; keep one of them", stage + 1);
                checker.advise_key(&list.key(name), message, help);
            }
        }
        earlier.extend(files.keys().map(|name| (name.as_str(), index)));
    }
}

/// The stage `copy`: a source in the recipe's folder, a destination that lasts.
pub fn copy(checker: &mut Checker<'_>, path: &Path, options: &Copy) {
    if let Some(bytes) = checker.file_or_folder(&path.key("source"), &options.source) {
        checker.copied.insert(path.clone(), bytes);
        if options.destination.trim_end_matches('/').is_empty()
            && let Some(place) = checker.mounted_over(&options.source)
        {
            lost(checker, &path.key("source"), &place);
        }
    }
    lost(checker, &path.key("destination"), &options.destination);
    if !names::absolute(&options.destination) {
        let message = format!("`{}` is not an absolute path", options.destination);
        checker.advise(&path.key("destination"), message, "for instance `/opt/app/`");
    }
    if let Some(octal) = &options.mode {
        mode(checker, &path.key("mode"), octal);
    }
    owners(checker, path, &options.owner, &options.group);
}

/// The stage `run`: one script or one file, and names of variables.
pub fn run(checker: &mut Checker<'_>, path: &Path, options: &Run) {
    match (&options.script, &options.file) {
        (None, None) => checker.advise(path, "the stage `run` has nothing to run", "give it `script` or `file`"),
        (Some(_), Some(_)) => checker.advise(path, "the stage `run` has both `script` and `file`", "keep one of them"),
        (Some(script), None) if script.trim().is_empty() => checker.report(&path.key("script"), "the script is empty"),
        (Some(script), None) if script.contains('\0') => {
            checker.report(&path.key("script"), "the script has a NUL character in it");
        }
        (Some(_), None) => {}
        (None, Some(file)) => checker.file(&path.key("file"), file),
    }
    for (name, value) in &options.environment {
        if !names::variable(name) {
            let message = format!("`{name}` is not a name of a variable");
            checker.advise_key(&path.key("environment").key(name), message, "letters, digits and `_`");
        }
        if value.contains('\0') {
            checker.report(&path.key("environment").key(name), "the value has a NUL character in it");
        }
    }
}

fn mode(checker: &mut Checker<'_>, path: &Path, mode: &str) {
    if !names::mode(mode) {
        checker.advise(path, format!("`{mode}` is not a file mode"), MODE);
    }
}

fn owners(checker: &mut Checker<'_>, path: &Path, owner: &str, group: &str) {
    for (key, name) in [("owner", owner), ("group", group)] {
        if !names::owner(name) {
            checker.advise(&path.key(key), format!("`{name}` is not an {key}").replace("an group", "a group"), OWNER);
        }
    }
}

/// Something else is mounted over such places, in the stages and in the system.
fn lost(checker: &mut Checker<'_>, path: &Path, place: &str) {
    if names::absolute(place) && is_or_below(place.trim_end_matches('/'), &MOUNTED_ELSEWHERE) {
        let message = format!("what is put to `{place}` is lost: something else is mounted there");
        checker.advise_key(path, message, "choose another place, or make it at each boot with tmpfiles.d(5)");
    }
}
