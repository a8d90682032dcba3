use super::*;

#[test]
fn a_failure_names_its_stage_and_its_reasons() {
    let failure = Failure {
        kind: FailureKind::ScratchFull,
        stage: Some((2, "3/9 apt".into())),
        message: "apt-get install failed\nexit status 100".into(),
        output: vec!["E: one".into(), "E: two".into()],
    };
    let error = VmError::Failed(Box::new(failure));
    assert_eq!(error.to_string(), "stage 3/9 apt failed: apt-get install failed: exit status 100");
    assert_eq!(error.details().as_deref(), Some("E: one\nE: two"));
    assert_eq!(error.class(), Class::Build);
    assert!(error.advice().is_some_and(|advice| advice.contains("--scratch-size")));
}

#[test]
fn a_failure_does_not_steer_the_terminal() {
    let failure = Failure {
        kind: FailureKind::Command,
        stage: Some((0, "1/1 \x1b[2Jrun\nwarning: x".into())),
        message: "one\x1b[31m\ntwo\x07".into(),
        output: vec!["E: \x1b]0;title\x07one".into()],
    };
    let error = VmError::from(failure);
    assert_eq!(error.to_string(), "stage 1/1 run warning: x failed: one: two");
    assert_eq!(error.details().as_deref(), Some("E: one"));
}

#[test]
fn what_the_guest_breaks_is_no_defect_of_particle_vm() {
    let broken = yamux::ConnectionError::Closed;
    assert_eq!(VmError::from(ProxyError::Link(broken)).class(), Class::Build);
    assert_eq!(VmError::from(LinkError::Unexpected("a hello")).class(), Class::Build);
    let other = LinkError::OtherBuild { protocol: 0, build: String::new() };
    assert_eq!(VmError::from(other).class(), Class::Internal);
}

#[test]
fn only_kvm_itself_is_a_certain_verdict_on_kvm() {
    let died = |raw, stderr: &str| VmError::QemuDied { status: ExitStatus::from_raw(raw), stderr: stderr.into() };
    let stopped = |state: &str| VmError::Stopped { state: state.into(), stderr: String::new() };
    let no_memory = died(1 << 8, "qemu-system-x86_64: cannot set up guest memory 'ram': Cannot allocate memory");
    let killed = died(libc::SIGKILL, "qemu-system-x86_64: warning: host KVM");
    for (error, of_kvm, may_be) in [
        (stopped("internal-error"), true, true),
        (stopped("paused"), false, true),
        (died(1 << 8, "qemu-system-x86_64: failed to initialize kvm: Input/output error"), true, true),
        (no_memory, false, true),
        (killed, false, false),
        (VmError::NoHello { seconds: 15, console: String::new() }, false, true),
    ] {
        assert_eq!((error.is_of_kvm(), error.may_be_acceleration()), (of_kvm, may_be), "{error:?}");
    }
}

#[test]
fn a_guest_is_started_again_for_what_the_emulation_may_have_done() {
    let console = String::new;
    let panic = |reason: &str| VmError::Panic { reason: reason.into(), console: console() };
    for (error, again) in [
        (VmError::NoHello { seconds: 60, console: console() }, true),
        (VmError::GuestEnded { what: RESTARTED, console: console() }, true),
        (VmError::GuestEnded { what: SWITCHED_OFF, console: console() }, false),
        (panic("Attempted to kill the idle task!"), true),
        (panic("System is deadlocked on memory"), false),
        (VmError::AgentGone { console: console() }, false),
    ] {
        assert_eq!(error.may_be_emulation(), again, "{error:?}");
    }
}

#[test]
fn a_panic_for_want_of_memory_is_told_as_that() {
    let reason = "System is deadlocked on memory".into();
    let error = VmError::Panic { reason, console: String::new() };
    assert!(error.advice().is_some_and(|advice| advice.contains("--memory")));
    assert_eq!(error.details(), None);
}
