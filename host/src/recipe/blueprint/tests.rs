//! What a blueprint becomes, and each refusal with its place.

mod disk;

use super::*;
use crate::output::Format;
use crate::plan::{BaseFacts, HostFacts, Overrides, plan};
use crate::recipe::{GIB, MIB, Size, Source};
use particle_vm_protocol::{Base, Engine, Filesystem, PartitionKind, Stage};
use std::fmt::Write;

fn order() -> Order {
    Order { image: "oci:image".into(), formats: vec![Format::Qcow2], ..Order::default() }
}

fn toml(text: &str) -> Result<Recipe, Findings> {
    of(&order(), Some(read::from_toml(Source::new("config.toml", text))?))
}

fn json(text: &str) -> Result<Recipe, Findings> {
    of(&order(), Some(read::from_json(Source::new("config.json", text))?))
}

fn good(recipe: Result<Recipe, Findings>) -> Recipe {
    recipe.unwrap_or_else(|findings| panic!("{}", findings.render(false)))
}

/// Each finding as `line:column message | help`.
fn said(recipe: Result<Recipe, Findings>) -> String {
    let Err(findings) = recipe else { return String::new() };
    findings.iter().fold(String::new(), |mut said, finding| {
        let help = finding.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
        writeln!(said, "{}:{} {}{help}", finding.line, finding.column, finding.message).unwrap();
        said
    })
}

fn table(rows: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (text, expected) in rows {
        let said = said(toml(text));
        if said.trim_end() != *expected {
            writeln!(wrong, "{text}\n  expected: {expected}\n  said:     {}", said.trim_end()).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn stages(recipe: &Recipe) -> Vec<&Stage> {
    recipe.stages.iter().map(|stage| &stage.stage).collect()
}

const WHOLE: &str = r#"
name = "server"
description = "A server"

[[customizations.group]]
name = "data"
gid = 2000

[[customizations.user]]
name = "deb"
description = "${NOT_A_VARIABLE}"
password = "secret"
key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIaTXgNfXkCLEPHGI2ZfZ1p2G0BTv2mgWGqyRKmrPb/J deb"
home = "/var/home/deb"
shell = "/bin/sh"
groups = ["sudo", "data"]
uid = 1500
gid = 1500

[customizations]
hostname = "server"

[customizations.kernel]
append = "console=ttyS0  quiet"

[customizations.timezone]
timezone = "Europe/Berlin"

[customizations.locale]
languages = ["C.UTF-8", "de_DE.UTF-8"]
keyboard = "de"

[customizations.services]
enabled = ["ssh"]
masked = ["apt-daily.timer"]

[[customizations.directories]]
path = "/etc/app's"
mode = "0750"
user = "deb"
group = 2000
ensure_parents = true

[[customizations.files]]
path = "/etc/app"
data = """
one ${TWO}
"""
mode = "0600"
user = 1500

[[customizations.files]]
path = "/etc/empty"
"#;

#[test]
fn a_whole_blueprint_becomes_a_recipe() {
    let recipe = good(toml(WHOLE));
    assert_eq!((recipe.name.as_str(), recipe.description.as_deref()), ("server", Some("A server")));
    assert_eq!(recipe.base_image.as_deref(), Some("oci:image"));
    assert_eq!(recipe.output.formats, [Format::Qcow2]);
    assert!(recipe.disk.is_none() && recipe.fits(Engine::NativeOstree).is_ok());
    assert!(
        said(recipe.fits(Engine::Plain).map(|()| recipe.clone()))
            .contains("write a recipe that has it as `base-image`")
    );
    let stages = stages(&recipe);
    let names: Vec<_> = stages.iter().map(|stage| stage.name()).collect();
    assert_eq!(names, ["kernel", "hostname", "timezone", "locale", "keymap", "users", "run", "files", "systemd"]);
    let (Stage::Kernel(kernel), Stage::Locale(locale), Stage::Users(users)) = (stages[0], stages[3], stages[5]) else {
        panic!("{stages:?}");
    };
    assert_eq!(kernel.cmdline, ["console=ttyS0", "quiet"]);
    assert_eq!((locale.language.as_str(), locale.generate.as_slice()), ("C.UTF-8", &["de_DE.UTF-8".to_owned()][..]));
    assert_eq!((users.groups[0].name.as_str(), users.groups[0].gid), ("data", Some(2000)));
    let user = &users.users["deb"];
    assert_eq!((user.uid, user.gid, user.ssh_keys.len()), (Some(1500), Some(1500), 1));
    assert_eq!(user.description.as_deref(), Some("${NOT_A_VARIABLE}"));
    let (Stage::Run(run), Stage::Files(files), Stage::Systemd(systemd)) = (stages[6], stages[7], stages[8]) else {
        panic!("{stages:?}");
    };
    let script = "test -d \"/etc/app's\" || mkdir --parents \"/etc/app's\"\nchmod 0750 \"/etc/app's\"\n\
                  chown deb \"/etc/app's\"\nchgrp 2000 \"/etc/app's\"\n";
    assert_eq!(run.script.as_deref(), Some(script));
    let file = &files.files["/etc/app"];
    assert_eq!((file.content.as_str(), file.mode.as_str(), file.owner.as_str()), ("one ${TWO}\n", "0600", "1500"));
    assert_eq!((files.files["/etc/empty"].content.as_str(), systemd.mask.len()), ("", 1));
}

#[test]
fn json_is_read_in_both_wrappers_and_with_any_white_space() {
    for text in [
        r#"{"customizations": {"user": [{"name": "deb", "groups": ["sudo"], "key": null}]}}"#,
        "{\n\t\"blueprint\": {\n\t\t\"customizations\": {\n\t\t\t\"user\": [\n\t\t\t\t{\"name\": \"deb\",\n\
         \t\t\t\t\"groups\":\n[\"\\u0073udo\"]}\n\t\t\t]\n\t\t}\n\t}\n}\n",
    ] {
        let recipe = good(json(text));
        let [Stage::Users(users)] = stages(&recipe)[..] else { panic!("{:?}", recipe.stages) };
        assert_eq!(users.users["deb"].groups, ["sudo"]);
    }
    let face = good(json(r#"{"description": "\\ud83d \ud83d\ude00"}"#));
    assert_eq!(face.description.as_deref(), Some("\\ud83d \u{1f600}"));
    assert_eq!(said(json("{\n  \"customizations\": {,}\n}")), "2:22 this is not JSON: key must be a string\n");
    assert_eq!(said(json("a: 1")), "1:1 this is not JSON: expected value\n");
    assert!(said(json("{\n\"customizations\": {\"usr\": []}}")).starts_with("2:20 there is no `customizations.usr`"));
    for text in ["[]", "null", "\"a\""] {
        assert!(said(json(text)).contains("a configuration is an object"), "{text}");
    }
}

#[test]
fn an_image_needs_no_blueprint() {
    let order = Order { filesystem: Some(Filesystem::Xfs), image: "docker://example.org/a/Server:1".into(), ..order() };
    let recipe = good(load(&order));
    assert_eq!((recipe.name.as_str(), recipe.stages.len()), ("server", 0));
    let disk = recipe.disk.unwrap();
    assert_eq!((disk.filesystem, disk.size, disk.partitions), (Filesystem::Xfs, None, None));
    let wrong = said(load(&Order { image: "oci:a b".into(), ..order.clone() }));
    assert_eq!(wrong, "1:1 this is no reference of an image | for instance `oci:./image:latest`\n");
    let mut both = order;
    both.config = Some("/nowhere/config.toml".into());
    assert!(load(&both).unwrap_err().to_string().contains("/nowhere/config.toml has a problem"));
}

#[test]
fn findings_about_both_files_name_both() {
    let order = Order { image: "oci:a b".into(), ..order() };
    let configuration = read::from_toml(Source::new("config.toml", "[customizations]\nhostname = \"-\"\n"));
    let findings = of(&order, Some(configuration.ok().unwrap())).unwrap_err();
    let places: Vec<_> = findings.iter().map(|finding| (finding.file.as_str(), finding.line, finding.column)).collect();
    assert_eq!(places, [("config.toml", 2, 12), ("the command line", 1, 1)]);
    assert_eq!(findings.to_string(), "config.toml and the command line have 2 problems");
    let shown = findings.render(false);
    assert!(shown.contains("hostname = \"-\"") && shown.contains("oci:a b --type qcow2"), "{shown}");
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    const KEYS: &str = "`user`, `group`, `kernel`, `filesystem`, `disk`, `files`, `directories`, `hostname`, `timezone`, \
                        `locale`, `services`";
    table(&[
        ("", ""),
        ("[customizations]\n", ""),
        (
            "[[packages]]\nname = \"vim\"\n",
            "1:3 `packages` cannot be honoured | packages belong into the container image: install them in its Containerfile",
        ),
        (
            "[customizations.firewall]\nports = [\"22:tcp\"]\n",
            "1:17 `customizations.firewall` cannot be honoured | put the rules into the container image",
        ),
        (
            "[customizations.kernel]\nname = \"kernel-rt\"\n",
            "2:1 `customizations.kernel.name` cannot be honoured | the kernel is the one of the container image",
        ),
        (
            "[customizations.usr]\n",
            &format!("1:17 there is no `customizations.usr` | did you mean `user`? keys: {KEYS}"),
        ),
        (
            "[[customizations.files]]\npath = \"/etc/a\"\nuri = \"https://example.org/a\"\n",
            "3:1 `customizations.files.uri` cannot be honoured | the build reads no file from elsewhere; write its content as `data`",
        ),
        (
            "[customizations.timezone]\nntpservers = [\"ntp.example.org\"]\n",
            "2:1 `customizations.timezone.ntpservers` cannot be honoured | write `/etc/systemd/timesyncd.conf` with `[[customizations.files]]`",
        ),
        ("[customizations.locale]\nkeyboard = \"uk\"\n", "2:12 there is no keyboard layout `uk` | did you mean `gb`?"),
        (
            "[[customizations.user]]\nname = \"a\"\nexpiredate = 1\n",
            "3:1 `customizations.user.expiredate` cannot be honoured | accounts of an image do not expire; run `chage` in the booted system",
        ),
        ("name = \"a\"\n[blueprint]\n", "1:1 `name` stands beside `blueprint` | write it beneath `blueprint`"),
    ]);
    for (key, _) in CUSTOMIZATIONS.refused.iter().chain(BLUEPRINT.refused) {
        assert!(!CUSTOMIZATIONS.taken.contains(key) && !BLUEPRINT.taken.contains(key), "{key}");
    }
}

#[test]
fn what_has_the_wrong_form_is_told_where_it_is() {
    table(&[
        ("a = \n", "1:5 this is not TOML: string values must be quoted, expected literal string"),
        ("hostname = 1979-05-27\n", "1:12 `1979-05-27` is a date, and nothing here is one | text goes into quotes"),
        (
            "[customizations.user]\nname = \"a\"\n",
            "1:17 `customizations.user` is a list of tables, and not a mapping | write `[[customizations.user]]`, and the keys of one beneath",
        ),
        (
            "[[customizations.user]]\nkey = \"\"\n",
            "2:1 this `customizations.user` has no `name` | give it one: `name = ...`",
        ),
        (
            "[[customizations.user]]\nname = \"a\"\n[[customizations.user]]\nname = \"a\"\n",
            "4:8 the user `a` is given a second time | put all that is said of a user into one table",
        ),
        (
            "[[customizations.user]]\nname = \"A\"\ngroups = \"sudo\"\n",
            "3:10 `groups` is a list, and not a text | write `[\"sudo\"]`",
        ),
        ("[customizations]\nhostname = 5\n", "2:12 `hostname` is a text, and not the number 5"),
        (
            "[customizations.timezone]\ntimezone = \"Berlin\"\n",
            "2:12 there is no time zone `Berlin` | for instance `Europe/Berlin` or `Etc/UTC`",
        ),
        (
            "[customizations.kernel]\nappend = \"quiet root=/dev/sda\"\n",
            "2:10 `root=` follows from the disk | remove it",
        ),
        (
            "[[customizations.files]]\npath = \"/etc/a\"\nmode = 420\n",
            "3:8 this is not a file mode | permissions are octal digits in quotes, like `\"0644\"` or `\"0755\"`",
        ),
        (
            "[[customizations.files]]\npath = \"etc/a\"\n",
            "2:8 `etc/a` is not an absolute path of a file | for instance `/etc/motd`",
        ),
        (
            "[[customizations.directories]]\npath = \"/usr/a\"\n",
            "2:8 `/usr/a` is read-only in a system that is deployed from a container image | make it in the container image, or beneath `/etc` or `/var`",
        ),
        (
            "[[customizations.directories]]\npath = \"/run/a\"\n",
            "2:8 `/run/a` is lost: something else is mounted there | make it at each boot, with a file in `/etc/tmpfiles.d`",
        ),
        (
            "[[customizations.directories]]\npath = \"/etc/a\"\nuser = \"a; reboot\"\nensure_parents = \"yes\"\n",
            "3:8 `user` does not name one | a name of the image, or a number\n\
             4:18 `ensure_parents` is `true` or `false` | write it without quotes",
        ),
    ]);
}

#[test]
fn folders_come_in_order_and_once() {
    let folder = |path: &str| format!("[[customizations.directories]]\npath = \"{path}\"\n");
    let recipe = good(toml(&[folder("/etc/a/b"), folder("/etc/a")].concat()));
    let [Stage::Run(run)] = stages(&recipe)[..] else { panic!("{:?}", recipe.stages) };
    let script = run.script.as_deref().unwrap();
    assert!(script.find("mkdir /etc/a\n") < script.find("mkdir /etc/a/b\n"), "{script}");
    table(&[
        (
            &[folder("/etc/a"), folder("/etc/a/")].concat(),
            "4:8 the folder `/etc/a/` is given a second time | keep one of them",
        ),
        (
            &[folder("/etc/a/b"), "[[customizations.files]]\npath = \"/etc/a\"\n".into()].concat(),
            "2:8 `/etc/a/b` is a file by `customizations.files`, or lies in one | keep one of them",
        ),
    ]);
}

#[test]
fn what_debian_has_not_is_said_before_anything_is_fetched() {
    let user = "[[customizations.user]]\nname = \"a\"\ngroups = [\"wheel\"]\n";
    table(&[
        (
            user,
            "3:11 Debian has no group `wheel`; its administrators are in `sudo` | write `sudo`, or make the group with `[[customizations.group]]`",
        ),
        (&format!("{user}[[customizations.group]]\nname = \"wheel\"\n"), ""),
        (
            "[[customizations.files]]\npath = \"/usr/local/bin/x\"\ndata = \"x\"\n",
            "2:8 `/usr/local/bin/x` is read-only in a system that is deployed from a container image | do it in the container image, or write `engine: plain`",
        ),
        (
            "[[customizations.group]]\nname = \"data\"\nfoo = 1\n",
            "3:1 there is no `customizations.group.foo` | keys: `name`, `gid`",
        ),
    ]);
}

#[test]
fn the_blueprint_of_the_document_is_good() {
    let document = include_str!("../../../../docs/coming-from-bootc-image-builder.md");
    let blueprints: Vec<_> = document.split("```toml\n").skip(1).collect();
    assert_eq!(blueprints.len(), 1);
    let recipe = good(toml(blueprints[0].split("```").next().unwrap()));
    assert_eq!(recipe.stages.len(), 6);
    // Every key that is taken or refused is in its tables.
    let keys = CUSTOMIZATIONS.refused.iter().chain(BLUEPRINT.refused).map(|(key, _)| *key);
    let untold: Vec<_> =
        keys.chain(CUSTOMIZATIONS.taken.iter().copied()).filter(|key| !document.contains(&format!("`{key}"))).collect();
    assert!(untold.is_empty(), "{untold:?}");
}
