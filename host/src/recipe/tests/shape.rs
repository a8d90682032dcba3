use super::*;

#[test]
fn keys_and_types_are_those_of_a_recipe() {
    table(
        with_line,
        &[
            ("outputs: { formats: [raw] }", ""),
            ("output: { formts: [raw] }", ""),
            ("output: { formats: qcow2 }", ""),
            ("output: { formats: [qcow, iso] }", ""),
            ("output: [raw]", ""),
            ("output:", ""),
            ("output: { formats: }", ""),
            ("description: 42", ""),
            ("description: [a, b]", ""),
            ("description: true", ""),
            ("architecture: arm64", ""),
            ("tests: [{ nam: x }]", ""),
            ("tests: { name: x }", ""),
            ("tests: [{ name: x, run: y, timeout: 5 }]", ""),
            ("tests: [{ name: x, run: y, timeout: soon }]", ""),
            ("resources: { cpus: -1 }", ""),
            ("resources: { cpus: 5000000000 }", ""),
            ("resources: { cpus: '2' }", ""),
            ("resources: { memory: 1.5 }", ""),
            ("1: x", ""),
        ],
    );
    table(str::to_owned, &[("hello", ""), ("- a", ""), ("name: x", "")]);
}

#[test]
fn stages_have_a_type_and_options() {
    table(
        with_stage,
        &[
            ("atp, options: { packages: [vim] }", ""),
            ("org.osbuild.debian.atp", ""),
            ("qqqq", ""),
            ("[apt]", ""),
            ("apt", ""),
            ("apt, options: [vim]", ""),
            ("apt, options:", ""),
            ("apt, packages: [vim]", ""),
            ("apt, option: { packages: [vim] }", ""),
            ("apt, options: { package: [vim], recommends: yes }", ""),
            ("apt, options: { packages: vim }", ""),
            ("org.osbuild.debian.apt-install, options: { packages: [vim] }", ""),
            ("users, options: { users: { deb: { sshkeys: [a], uid: abc } } }", ""),
            ("users, options: { users: { deb: } }", ""),
            ("files, options: { files: { /etc/motd: hello } }", ""),
            ("files, options: { files: { /etc/motd: { content: hello, mode: 0600 } } }", ""),
        ],
    );
    table(
        |stage| GOOD.replace("disk:", &format!("  - {stage}\ndisk:")),
        &[("options: { packages: [vim] }", ""), ("apt", ""), ("", "")],
    );
}

#[test]
fn everything_is_told_in_one_go() {
    let recipe = "name: All Wrong
stages:
  - type: debootstrap
    options: { suit: trixie }
  - type: apt
    options: { packages: [vim, Emacs] }
  - type: timezone
    options: { zone: Mars/Olympus }
  - type: bootloader
disk:
  size: 0
outputs: { formats: [raw] }
tests:
  - name: x
    run: y
    expects: z
";
    assert_eq!(said(recipe), "");
}
