use super::*;

/// A recipe in which a commit is made and deployed. `before` is in line 6, `after` in line 9.
fn deployed(before: &str, after: &str) -> String {
    format!(
        "name: good
stages:
  - {{ type: debootstrap, options: {{ suite: trixie }} }}
  - {{ type: kernel }}
  - {{ type: bootc }}
  - {{ type: {before} }}
  - {{ type: ostree.commit, options: {{ ref: a/b }} }}
  - {{ type: ostree.deploy, options: {{ ref: a/b }} }}
  - {{ type: {after} }}
disk: {{ size: 4GiB }}
"
    )
}

const INIT: &str = "ostree.init";
const NAMED: &str = "hostname, options: { hostname: a }";

/// One that only fetches a commit, with `lines` from line 3 on.
fn fetched(lines: &str) -> String {
    format!("name: good\nstages:\n{lines}\ndisk: {{ size: 4GiB }}\n")
}

const PULL: &str = "  - { type: ostree.pull, options: { url: 'https://a.example/', refs: [a/b], unsigned: true } }";
const DEPLOY: &str = "  - { type: org.osbuild.ostree.deploy, options: { ref: a/b, remote: r, stateroot: os } }";

#[test]
fn a_commit_is_made_or_fetched_and_deployed() {
    assert_eq!(said(&deployed(INIT, NAMED)), "");
    assert_eq!(said(&format!("{}output: {{ formats: [raw, oci, ostree-repo] }}\n", deployed(INIT, NAMED))), "");
    assert_eq!(said(&fetched(&format!("{PULL}\n{DEPLOY}"))), "");
    let text = fetched(&format!("{PULL}\n{DEPLOY}"));
    let recipe = parse(Source::new("r.yml", text), FilePath::new("."), &BTreeMap::new()).unwrap();
    assert_eq!(recipe.deploys(), Some(1));
    assert!(recipe.bootloader().is_some());
}

#[test]
fn what_changes_the_commit_comes_before_its_deployment() {
    table(
        |after| deployed(INIT, after),
        &[
            (
                "apt, options: { packages: [vim] }",
                "9:13 the stage `apt` writes to `/usr`, which is the commit's here | do it before the stage `ostree.deploy`",
            ),
            (
                "files, options: { files: { /usr/lib/a: { content: b } } }",
                "9:40 `/usr/lib/a` is read-only in a system that is deployed from a commit | do it before the stage `ostree.deploy`",
            ),
            (
                "ostree.pull, options: { url: 'https://a.example/', refs: [c], unsigned: true }",
                "9:13 the repository of the build is used before | put it before `ostree.deploy`",
            ),
        ],
    );
    table(
        |before| deployed(before, NAMED),
        &[(
            "bootloader",
            "6:13 the bootloader starts the deployment, which is not there yet | put it after `ostree.deploy`\n6:13 the stage `bootloader` stands after `bootc`, which ends the work on the tree | put it before",
        )],
    );
}

#[test]
fn a_deployment_needs_its_commit_and_a_disk() {
    table(
        |lines| fetched(&lines.replace('|', "\n")),
        &[
            (
                "  - { type: ostree.deploy, options: { ref: a/b } }",
                "3:44 no stage gives the commit `a/b` | make it with a stage `ostree.commit`, or fetch it with `ostree.pull`",
            ),
            (
                &format!("{PULL}|  - {{ type: ostree.deploy, options: {{ ref: a/c, stateroot: '', remote: a/b }} }}"),
                "4:44 no stage gives the commit `a/c` | did you mean `a/b`?\n4:60 `` is not a name of a stateroot | letters, digits, `_`, `-` and `.`\n4:72 `a/b` is not a name of a remote | letters, digits, `_`, `-` and `.`",
            ),
            (
                &format!("  - {{ type: {NAMED} }}|{PULL}|{DEPLOY}"),
                "3:13 the stage `hostname` has no tree to work on | put it after `ostree.deploy`, or begin with `debootstrap`",
            ),
        ],
    );
    let tree = fetched(&format!("  - {{ type: debootstrap, options: {{ suite: trixie }} }}\n{PULL}\n{DEPLOY}"));
    assert!(said(&tree).contains("nothing is made of the tree"), "{}", said(&tree));
    assert!(
        said(&format!("{}output: {{ formats: [raw, tar] }}\n", fetched(&format!("{PULL}\n{DEPLOY}"))))
            .contains("no stage makes one")
    );
    let bare = deployed(INIT, NAMED).replace("type: bootc", "type: hostname, options: { hostname: a }");
    assert!(said(&bare).contains("add a stage `bootc` before `ostree.commit`"), "{}", said(&bare));
    let other = deployed(
        "ostree.remotes, options: { remotes: [{ name: upd, url: 'https://a.example/', unsigned: true }] }",
        NAMED,
    );
    let other = other.replace("deploy, options: { ref: a/b", "deploy, options: { ref: a/b, remote: udp");
    assert!(said(&other).contains("there is no remote `udp` | did you mean `upd`?"), "{}", said(&other));
    let root = deployed(INIT, NAMED)
        .replace("disk: { size: 4GiB }", "disk: { size: 4GiB, partitions: [{ kind: root, grow: true }] }");
    assert!(said(&root).contains("GRUB on a BIOS machine needs a BIOS boot partition"), "{}", said(&root));
    let recipe = parse(Source::new("r.yml", deployed(INIT, NAMED)), FilePath::new("."), &BTreeMap::new()).unwrap();
    assert!(recipe.check_formats(&[Format::OstreeRepo]).is_err() && recipe.check_formats(&[Format::Qcow2]).is_ok());
    let no_disk = deployed(INIT, NAMED).replace("disk: { size: 4GiB }", "output: { formats: [tar] }");
    assert_eq!(
        said(&no_disk),
        "8:13 there is no disk for the deployment | remove the stage, or add a format that is a disk, for instance `qcow2`\n"
    );
    let image = deployed(INIT, NAMED).replace("  - { type: debootstrap, options: { suite: trixie } }\n", "");
    assert_eq!(said(&image.replace("name: good", "name: good\nbase-image: oci:a\nengine: plain")), "");
    assert!(
        said(&image.replace("name: good", "name: good\nbase-image: oci:a")).contains("write `engine: plain` to make")
    );
}
