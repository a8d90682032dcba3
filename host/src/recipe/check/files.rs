//! The stages that write files and run scripts, and the files of the recipe's folder that any stage names.

use super::{Checker, names};
use crate::recipe::path::Path;
use crate::recipe::shape::nearest;
use particle_vm_protocol::stage::{Copy, Files, Run};
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Component, Path as FilePath};

const OWNER: &str = "a name of the image, or a number";
const MODE: &str = "permissions are octal digits, like `0644` or `0755`";

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
        }
        mode(checker, &path.key("mode"), &file.mode);
        owners(checker, &path, &file.owner, &file.group);
    }
}

pub fn copy(checker: &mut Checker<'_>, path: &Path, options: &Copy) {
    checker.file_or_folder(&path.key("source"), &options.source);
    if !names::absolute(&options.destination) {
        let message = format!("`{}` is not an absolute path", options.destination);
        checker.advise(&path.key("destination"), message, "for instance `/opt/app/`");
    }
    if let Some(octal) = &options.mode {
        mode(checker, &path.key("mode"), octal);
    }
    owners(checker, path, &options.owner, &options.group);
}

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

impl Checker<'_> {
    /// `written` names a file of the recipe's folder that can be read.
    pub(super) fn file(&mut self, path: &Path, written: &str) {
        if let Some(data) = self.beneath(path, written)
            && !data.is_file()
        {
            self.report(path, format!("`{written}` is not a file"));
        }
    }

    /// The same for a file or a folder.
    pub(super) fn file_or_folder(&mut self, path: &Path, written: &str) {
        if let Some(data) = self.beneath(path, written)
            && !data.is_file()
            && !data.is_dir()
        {
            self.report(path, format!("`{written}` is neither a file nor a folder"));
        }
    }

    /// What `written` names in the recipe's folder, after all symbolic links. This is for the message; what counts is
    /// that the guest sees nothing but the folder.
    fn beneath(&mut self, path: &Path, written: &str) -> Option<Metadata> {
        const INSIDE: &str = "the build sees the recipe's folder only: put the file into it, and name it from there";
        let relative = FilePath::new(written);
        let leaves = || {
            let mut depth = 0_i32;
            relative.components().any(|part| {
                depth += match part {
                    Component::ParentDir => -1,
                    Component::Normal(_) => 1,
                    _ => 0,
                };
                depth < 0
            })
        };
        if written.is_empty() || written.contains('\0') {
            self.report(path, "this is not a path");
        } else if relative.is_absolute() {
            self.advise(path, format!("`{written}` is an absolute path"), INSIDE);
        } else if leaves() {
            self.advise(path, format!("`{written}` leads out of the recipe's folder"), INSIDE);
        } else {
            let found = self.folder.join(relative);
            match found.canonicalize() {
                Ok(real) if !real.starts_with(&self.folder) => {
                    let message = format!("`{written}` leads out of the recipe's folder by a symbolic link");
                    self.advise(path, message, INSIDE);
                }
                Ok(real) => match fs::metadata(&real).and_then(|data| readable(&real, data)) {
                    Ok(data) => return Some(data),
                    Err(error) => self.report(path, format!("`{written}` cannot be read: {error}")),
                },
                Err(_) if found.is_symlink() => self.report(path, format!("`{written}` is a symbolic link to nowhere")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let near = similar(&found).map_or_else(
                        || "paths are relative to the recipe's folder".to_owned(),
                        |near| format!("did you mean `{}`?", relative.with_file_name(near).display()),
                    );
                    self.advise(path, format!("there is no file `{written}`"), near);
                }
                Err(error) => self.report(path, format!("`{written}` cannot be read: {error}")),
            }
        }
        None
    }
}

/// Only files and folders are opened: a pipe would wait for its other end.
fn readable(path: &FilePath, data: Metadata) -> io::Result<Metadata> {
    if data.is_file() {
        File::open(path)?;
    } else if data.is_dir() {
        fs::read_dir(path)?;
    }
    Ok(data)
}

/// The name beside `path` that is most like its own.
fn similar(path: &FilePath) -> Option<String> {
    // Enough to help, and no long wait in a folder of a million files.
    const LOOKED_AT: usize = 1000;
    let entries = fs::read_dir(path.parent()?).ok()?.take(LOOKED_AT);
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    nearest(path.file_name()?.to_str()?, &names).map(str::to_owned)
}
