use super::*;

#[test]
fn a_line_is_cut_between_two_characters() {
    assert_eq!(shown("short".into()), "short");
    let long = shown("\u{e4}".repeat(MAX_LINE));
    assert_eq!((long.len(), long.chars().count()), (MAX_LINE, MAX_LINE / 2));
}

#[test]
fn a_line_steers_no_terminal_and_forges_no_other_line() {
    assert_eq!(shown("\x1b]0;title\x07one\nwarning: two".into()), "one warning: two");
}

#[test]
fn the_reason_of_a_failed_start_with_kvm_is_found_in_stderr() {
    let stderr = "qemu-system-x86_64: warning: x\nKVM internal error. Suberror: 1\nemulation failure\nRAX=0".into();
    let error = VmError::Stopped { state: "internal-error".into(), stderr };
    assert_eq!(reason(&error), "KVM internal error. Suberror: 1, emulation failure");
    let error = VmError::NoHello { seconds: 15, console: String::new() };
    assert_eq!(reason(&error), "the VM did not come up within 15 s");
}
