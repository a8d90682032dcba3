//! Findings about what a deployment does not take along: /var, and what has to be a link to there.

use super::super::limits;
use super::super::tree::{Kind, Node};
use super::{Look, some_of};
use std::collections::BTreeSet;

/// Folders of the root that people and programs write to, and where they lie in a deployment.
const WRITTEN: [(&str, &str); 5] =
    [("home", "var/home"), ("root", "var/roothome"), ("srv", "var/srv"), ("opt", "var/opt"), ("mnt", "var/mnt")];

/// Where dpkg's database can lie, so that it is updated with the image.
const DATABASE: &str = "usr/lib/sysimage/dpkg";

pub(super) fn all(look: &mut Look<'_>) {
    links(look);
    database(look);
    content(look);
    passing(look);
    boot(look);
    locale(look);
}

/// The root of a deployment is read-only.
fn links(look: &mut Look<'_>) {
    let (mut folders, mut full, mut dangling) = (Vec::new(), Vec::new(), Vec::new());
    let made = made_at_boot(look);
    for (name, target) in WRITTEN {
        match look.tree.get(name).map(|node| &node.kind) {
            Some(Kind::Folder) if !has_mount(look, name) => {
                let is_full = look.tree.within(name.as_bytes()).next().is_some();
                if is_full { &mut full } else { &mut folders }.push((name, target));
            }
            Some(Kind::Link(link)) => {
                let link = String::from_utf8_lossy(link);
                let link = link.trim_start_matches('/').trim_end_matches('/');
                if link.starts_with("var/") && !look.tree.has(link) && !made.contains(link) {
                    dangling.push((name, link.to_owned()));
                }
            }
            _ => {}
        }
    }
    let command = |of: &[(&str, &str)]| {
        let one = |(name, target): &(&str, &str)| format!("rm -rf /{name} && ln -s {target} /{name}");
        format!("RUN {}", of.iter().map(one).collect::<Vec<_>>().join(" && "))
    };
    let names = |of: &[(&str, &str)]| of.iter().map(|(name, _)| format!("/{name}")).collect::<Vec<_>>().join(", ");
    if !full.is_empty() {
        let message = format!("read-only in the booted system, with what is in them: {}", names(&full));
        look.warning(
            "root-folders-with-content",
            message,
            format!("move the content into /usr or leave it to tmpfiles.d(5); {}", command(&full)),
        );
    }
    if !folders.is_empty() {
        let message = format!("folders of the read-only root that should be links into /var: {}", names(&folders));
        look.warning("root-folders", message, command(&folders));
    }
    if !dangling.is_empty() {
        let lines: Vec<_> = dangling.iter().map(|(_, target)| format!("d /{target} 0755 root root -")).collect();
        let shown: Vec<_> = dangling.iter().map(|(name, target)| format!("/{name} -> {target}")).collect();
        look.warning(
            "dangling-root-links",
            format!("links whose targets nothing makes in the booted system: {}", shown.join(", ")),
            format!("RUN printf '{}\\n' > /usr/lib/tmpfiles.d/var-folders.conf", lines.join("\\n")),
        );
    }
    if look.tree.get("usr/local").is_some_and(|node| node.kind == Kind::Folder) {
        look.note(
            "usr-local",
            "/usr/local is read-only in the booted system",
            "where it is to be written to: RUN rm -rf /usr/local && ln -s ../var/usrlocal /usr/local",
        );
    }
}

/// Whether the image mounts something on the folder `name` of the root.
fn has_mount(look: &Look<'_>, name: &str) -> bool {
    let places = ["usr/lib/systemd/system", "etc/systemd/system", "usr/etc/systemd/system"];
    places.iter().any(|folder| look.tree.has(&format!("{folder}/{name}.mount")))
}

/// The paths that tmpfiles.d(5) makes folders or links at, without the slash before them.
fn made_at_boot(look: &Look<'_>) -> BTreeSet<String> {
    let mut made = BTreeSet::new();
    for folder in ["usr/lib/tmpfiles.d", "etc/tmpfiles.d", "usr/etc/tmpfiles.d"] {
        for (name, _) in look.tree.list(folder).into_iter().take(limits::FILES) {
            for line in look.tree.text(&format!("{folder}/{name}")).unwrap_or_default().lines() {
                let mut fields = line.split_whitespace();
                let (Some(kind), Some(path)) = (fields.next(), fields.next()) else { continue };
                if matches!(kind.chars().next(), Some('d' | 'D' | 'v' | 'q' | 'Q' | 'C' | 'L')) {
                    made.insert(path.trim_matches('/').to_owned());
                }
            }
        }
    }
    made
}

fn database(look: &mut Look<'_>) {
    let in_usr = look.tree.has(&format!("{DATABASE}/status"));
    let in_var = look.tree.get("var/lib/dpkg/status").is_some_and(|node| node.kind == Kind::File);
    let move_it = format!(
        "RUN mkdir -p /usr/lib/sysimage && mv /var/lib/dpkg /{DATABASE} && ln -s ../../{DATABASE} /var/lib/dpkg && \
         echo 'L /var/lib/dpkg - - - - ../../{DATABASE}' > /usr/lib/tmpfiles.d/dpkg.conf"
    );
    if in_var {
        look.warning(
            "dpkg-database-in-var",
            "dpkg's database lies in /var, which updates do not touch: after the first it tells of packages that are no \
             longer there",
            move_it,
        );
    } else if !in_usr {
        look.warning(
            "dpkg-database-lost",
            "dpkg's database is gone (/var was emptied?): no image that is made from this one can use apt",
            format!("before /var is emptied: {move_it}"),
        );
    } else if !look.tree.has("var/lib/dpkg") && !made_at_boot(look).contains("var/lib/dpkg") {
        look.warning(
            "dpkg-database-not-linked",
            format!("dpkg's database lies in /{DATABASE}, and nothing makes /var/lib/dpkg a link to it"),
            format!("RUN echo 'L /var/lib/dpkg - - - - ../../{DATABASE}' > /usr/lib/tmpfiles.d/dpkg.conf"),
        );
    }
}

/// Files in /var reach a machine once, with its first deployment.
fn content(look: &mut Look<'_>) {
    let is_content = |path: &[u8], node: &Node| {
        node.kind == Kind::File && !path.starts_with(b"var/lib/dpkg/") && !path.starts_with(b"var/tmp/")
    };
    let files = look.tree.within(b"var").filter(|(path, node)| is_content(path, node));
    let files: Vec<_> = files.map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
    if !files.is_empty() {
        look.warning(
            "var-content",
            format!(
                "{} in /var: they are copied to a machine when it is installed, and no update brings new ones ({})",
                if files.len() == 1 { "there is 1 file".into() } else { format!("there are {} files", files.len()) },
                some_of(&files)
            ),
            "RUN apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*; what has to be there belongs into /usr, \
             and tmpfiles.d(5) copies it",
        );
    }
}

/// What lies in folders that are empty at every boot.
fn passing(look: &mut Look<'_>) {
    let files = ["run", "tmp"].into_iter().flat_map(|folder| look.tree.within(folder.as_bytes()));
    let files = files.filter(|(_, node)| node.kind != Kind::Folder);
    let files: Vec<_> = files.map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
    if !files.is_empty() {
        let message = format!("what lies in /run and /tmp is left out: {}", some_of(&files));
        look.note("run-content", message, "RUN rm -rf /run/* /tmp/*, as the last step");
    }
}

/// The deployment brings its kernel from /usr; a disk's /boot is none of the image's.
fn boot(look: &mut Look<'_>) {
    let kernel = look.facts.kernel();
    let is_kernel = |path: &str| {
        kernel.is_some_and(|kernel| {
            [&kernel.image, &kernel.initramfs_path, &kernel.uki_path].iter().any(|own| own.as_deref() == Some(path))
        })
    };
    let files = look.tree.within(b"boot").filter(|(_, node)| node.kind != Kind::Folder);
    let files = files.map(|(path, _)| String::from_utf8_lossy(path).into_owned());
    let files: Vec<_> = files.filter(|path| !is_kernel(path)).collect();
    if !files.is_empty() {
        look.warning(
            "boot-content",
            format!("what lies in /boot is not seen in the booted system: {}", some_of(&files)),
            "RUN find /boot -mindepth 1 -delete, once the kernel lies in /usr/lib/modules",
        );
    }
}

fn locale(look: &mut Look<'_>) {
    let target = look.tree.get("usr/lib/locale").map(|node| &node.kind);
    if let Some(Kind::Link(target)) = target
        && String::from_utf8_lossy(target).contains("var/")
    {
        look.warning(
            "locale-in-var",
            "/usr/lib/locale is a link into /var: updates bring no new locales, and there are none before /var is mounted",
            "keep /usr/lib/locale a folder",
        );
    }
}
