//! Findings about the layout that OSTree wants, and about composefs.

use super::super::engine::{Backend, Engine};
use super::super::ostree::{Composefs, PrepareRoot};
use super::super::tree::Kind;
use super::{Look, some_of};

/// The first version of ostree that Debian builds with composefs.
const WITH_COMPOSEFS: (u32, u32) = (2025, 7);

pub(super) fn all(look: &mut Look<'_>) {
    layout(look);
    devices(look);
    let facts = look.facts;
    let Some(conf) = &facts.ostree.prepare_root else { return no_conf(look) };
    if !conf.problems.is_empty() {
        look.error(
            "prepare-root-invalid",
            format!("/{} is not understood: {}", conf.path, conf.problems.join("; ")),
            "see ostree-prepare-root(1) for its keys and values",
        );
    }
    conf_of_initramfs(look, conf);
    if conf.etc_transient == Some(true) {
        transient_etc(look, conf.path);
    }
    let composefs = match look.backend {
        Some(Backend::Composefs) => Some(Composefs::Yes),
        _ => conf.composefs,
    };
    if composefs.is_some_and(Composefs::is_required) {
        composefs_required(look);
    }
}

fn layout(look: &mut Look<'_>) {
    let ostree = &look.facts.ostree;
    if ostree.etc == Some("both") {
        look.error(
            "etc-and-usr-etc",
            "there are files in /etc and in /usr/etc; OSTree takes one as the origin of the other and refuses both",
            "RUN cp -a /usr/etc/. /etc/ && rm -rf /usr/etc",
        );
    }
    if !ostree.sysroot {
        look.error(
            "no-sysroot",
            "there is no folder /sysroot, where the disk is mounted in the booted system",
            "RUN mkdir /sysroot",
        );
    }
    if !ostree.link {
        look.warning(
            "no-ostree-link",
            "/ostree is no link to sysroot/ostree: `ostree` and `bootc` do not find their repository in the booted system",
            "RUN ln -sfn sysroot/ostree /ostree",
        );
    }
    let labels = &look.facts.config.labels;
    let known = ["containers.bootc", "ostree.bootable"].iter().any(|label| labels.contains_key(*label));
    if look.engine == Engine::Bootc && look.backend == Some(Backend::Ostree) && !known {
        look.error(
            "no-bootc-label",
            "bootc installs no image without the label containers.bootc or ostree.bootable",
            "LABEL containers.bootc=1",
        );
    } else if !look.facts.label("containers.bootc") {
        look.warning(
            "no-bootc-label",
            "the label containers.bootc is missing, by which bootc and other tools know a bootable image",
            "LABEL containers.bootc=1",
        );
    }
    let has_name = |os: &super::super::os::OsRelease| os.pretty_name.is_some() || os.id.is_some();
    if look.facts.os_release.as_ref().is_some_and(|os| !has_name(os)) {
        look.error(
            "os-release-without-name",
            "os-release has neither PRETTY_NAME nor ID, and OSTree names the boot entry by them",
            "RUN echo 'ID=debian' >> /usr/lib/os-release",
        );
    }
}

/// Those in /dev are dropped; anywhere else they are in the way.
fn devices(look: &mut Look<'_>) {
    let nodes = look.tree.iter().filter(|(path, node)| node.kind == Kind::Device && !path.starts_with(b"dev/"));
    let paths: Vec<_> = nodes.map(|(path, _)| String::from_utf8_lossy(path).into_owned()).collect();
    if !paths.is_empty() && look.backend == Some(Backend::Ostree) {
        look.error(
            "device-nodes",
            format!("there are device nodes, which OSTree cannot hold: {}", some_of(&paths)),
            "remove them, and let tmpfiles.d(5) make them at boot",
        );
    }
}

fn no_conf(look: &mut Look<'_>) {
    let remedy = "RUN mkdir -p /usr/lib/ostree && printf '[composefs]\\nenabled = yes\\n[sysroot]\\nreadonly = true\\n' > \
                  /usr/lib/ostree/prepare-root.conf, before the initramfs is made";
    let message = "there is no /usr/lib/ostree/prepare-root.conf";
    match look.engine {
        Engine::Bootc => look.error(
            "no-prepare-root-conf",
            format!("{message}, and `bootc install` refuses to go on without"),
            remedy,
        ),
        _ => look.warning(
            "no-prepare-root-conf",
            format!("{message}: the root is mounted as this ostree does when it is told nothing"),
            remedy,
        ),
    }
}

/// What an installation writes lies in /etc, and some of it keeps updates going: the generator that would mount over /boot is
/// hidden there, and what keeps the entries of systemd-boot in step starts from there.
fn transient_etc(look: &mut Look<'_>, path: &str) {
    let message = format!(
        "/{path} makes /etc anew at every start: users, mount points and all else that is set at installation are lost"
    );
    let remedy = format!("leave `transient = true` below [etc] out of /{path}, and make the initramfs again");
    match look.engine {
        Engine::Bootc => look.warning("etc-transient", message, remedy),
        _ => look.error("etc-transient", message, remedy),
    }
}

/// The file in the image decides what is deployed, its copy in the initramfs what is mounted.
fn conf_of_initramfs(look: &mut Look<'_>, conf: &PrepareRoot) {
    let initramfs = look.facts.kernel().and_then(|kernel| kernel.initramfs.as_ref());
    let Some(initramfs) = initramfs.filter(|initramfs| initramfs.ostree_prepare_root && initramfs.problem.is_none())
    else {
        return;
    };
    let copy = initramfs.prepare_root.as_ref().map(|text| PrepareRoot::parse(conf.path, text));
    let (inside, outside) = (copy.as_ref().and_then(|copy| copy.composefs), conf.composefs);
    let remedy = "make the initramfs again after /usr/lib/ostree/prepare-root.conf was changed: RUN dracut --force ...";
    if copy.as_ref() == Some(conf) {
        return;
    }
    let required = |composefs: Option<Composefs>| composefs.is_some_and(Composefs::is_required);
    if copy.is_none() {
        let message = format!("the initramfs has no copy of /{}, so that nothing of it holds at boot", conf.path);
        look.warning("prepare-root-differs", message, remedy);
    } else if required(inside) && outside == Some(Composefs::No) {
        let message = format!(
            "the initramfs requires composefs, and /{} says that there is none: what is deployed does not boot",
            conf.path
        );
        look.error("prepare-root-differs", message, remedy);
    } else {
        let message =
            format!("the initramfs has another prepare-root.conf than /{}; at boot its own counts", conf.path);
        look.warning("prepare-root-differs", message, remedy);
    }
}

/// Where composefs is required and something of it is missing, nothing boots.
fn composefs_required(look: &mut Look<'_>) {
    let facts = look.facts;
    let kernel = facts.kernel();
    let lacking = ["erofs", "overlay"].into_iter().filter(|driver| {
        let has = kernel.and_then(|kernel| kernel.has_driver(driver));
        has == Some(false)
    });
    let lacking: Vec<_> = lacking.collect();
    if !lacking.is_empty() {
        look.error(
            "composefs-without-driver",
            format!(
                "composefs is required, and neither the kernel nor its initramfs has the driver for {}",
                lacking.join(" and ")
            ),
            "RUN echo 'add_drivers+=\" erofs overlay \"' > /usr/lib/dracut/dracut.conf.d/30-composefs.conf, then make the \
             initramfs again",
        );
    }
    let without =
        kernel.and_then(|kernel| kernel.initramfs.as_ref()).is_some_and(|initramfs| initramfs.ostree_without_composefs);
    let newer = "install ostree 2025.7 or newer from testing (Debian 13's own is built without composefs) and make the \
                 initramfs again, or say `enabled = no` below [composefs] in /usr/lib/ostree/prepare-root.conf";
    if without {
        look.error(
            "ostree-without-composefs",
            "composefs is required, and the ostree-prepare-root in the initramfs was built without it: the boot stops there",
            newer,
        );
    } else if look.backend == Some(Backend::Ostree) && facts.ostree.binary {
        let version = facts.ostree.version.as_deref();
        let old = version.and_then(year_and_number).is_some_and(|version| version < WITH_COMPOSEFS);
        if facts.ostree.without_composefs || old {
            let version = version.unwrap_or("of this image");
            look.warning(
                "ostree-without-composefs",
                format!("composefs is required, and the ostree {version} was built without it: the system boots, and cannot update itself"),
                newer,
            );
        }
    }
}

/// `(2025, 7)` of `2025.7-3`.
pub(super) fn year_and_number(version: &str) -> Option<(u32, u32)> {
    let version = version.rsplit(':').next()?;
    let (year, rest) = version.split_once('.')?;
    let digits = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    Some((year.parse().ok()?, rest[..digits].parse().ok()?))
}
