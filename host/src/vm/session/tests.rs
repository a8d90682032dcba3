use super::*;
use crate::cancel::Cancel;
use crate::error::{Class, Classify};
use crate::vm::machine::tests::machine;
use particle_vm_protocol::frame::{self, PREFIX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A session whose agent is played by the test, at the other end.
async fn session() -> (Session, UnixStream) {
    let (ours, guest) = UnixStream::pair().unwrap();
    let session = Session {
        machine: machine(&[], "running").await,
        link: Link::new(ours),
        accelerator: Accelerator::Tcg,
        kernel_release: "6.12".into(),
        network: None,
        writing: None,
        events: Events::none(),
    };
    (session, guest)
}

async fn read(guest: &mut UnixStream) -> FromHost {
    let mut prefix = [0; PREFIX];
    guest.read_exact(&mut prefix).await.unwrap();
    let mut body = vec![0; frame::body_length(prefix).unwrap()];
    guest.read_exact(&mut body).await.unwrap();
    frame::decode(&body).unwrap()
}

async fn say_cancelled(guest: &mut UnixStream) {
    let failure = Failure {
        kind: FailureKind::Cancelled,
        stage: Some((0, "1/1 run".into())),
        message: "sleep was cancelled".into(),
        output: Vec::new(),
    };
    guest.write_all(&frame::encode(&FromGuest::Failed(failure)).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_job_is_cancelled_when_the_verb_is_to_end() {
    let (mut session, mut guest) = session().await;
    let cancel = Cancel::default();
    let agent = async {
        assert!(matches!(read(&mut guest).await, FromHost::Start(_)));
        assert!(cancel.ask());
        // A question for a sign of life may come first.
        while read(&mut guest).await != FromHost::Cancel {}
        say_cancelled(&mut guest).await;
    };
    let both = async { tokio::join!(cancel.scope(session.run(Job::Finish)), agent) };
    let (result, ()) = timeout(LONG, both).await.unwrap();
    let error = result.unwrap_err();
    assert!(matches!(&error, VmError::Failed(failure) if failure.kind == FailureKind::Cancelled), "{error:?}");
    assert_eq!(error.class(), Class::Interrupted);
    // Nobody listens any more.
    assert!(!cancel.ask());
}

/// What follows a job that ended well would publish its outputs.
#[tokio::test]
async fn a_job_that_is_done_after_the_user_has_cancelled_it_has_not_ended_well() {
    // The guest may say so before it hears of the wish, and after.
    for hears in [false, true] {
        let (mut session, mut guest) = session().await;
        let cancel = Cancel::default();
        let agent = async {
            assert!(matches!(read(&mut guest).await, FromHost::Start(_)));
            assert!(cancel.ask());
            while hears && read(&mut guest).await != FromHost::Cancel {}
            let done = FromGuest::Done(Box::new(JobResult::Exited(0)));
            guest.write_all(&frame::encode(&done).unwrap()).await.unwrap();
        };
        let both = async { tokio::join!(cancel.scope(session.run(Job::Finish)), agent) };
        let (result, ()) = timeout(LONG, both).await.unwrap();
        let error = result.unwrap_err();
        assert!(matches!(&error, VmError::Failed(failure) if failure.kind == FailureKind::Cancelled), "{error:?}");
        assert_eq!(error.class(), Class::Interrupted);
    }
}

#[tokio::test]
async fn a_guest_cannot_say_that_the_user_has_cancelled() {
    let (mut session, mut guest) = session().await;
    let agent = async {
        assert!(matches!(read(&mut guest).await, FromHost::Start(_)));
        say_cancelled(&mut guest).await;
    };
    let (result, ()) = timeout(LONG, async { tokio::join!(session.run(Job::Finish), agent) }).await.unwrap();
    let error = result.unwrap_err();
    assert!(matches!(error, VmError::Link(LinkError::Unexpected(_))), "{error:?}");
    assert_eq!(error.class(), Class::Build);
}

#[test]
fn the_reason_of_a_failed_start_with_kvm_is_found_in_stderr() {
    let stderr = "qemu-system-x86_64: warning: x\nKVM internal error. Suberror: 1\nemulation failure\nRAX=0".into();
    let error = VmError::Stopped { state: "internal-error".into(), stderr };
    assert_eq!(reason(&error), "KVM internal error. Suberror: 1, emulation failure");
    let error = VmError::NoHello { seconds: 15, console: String::new() };
    assert_eq!(reason(&error), "the VM did not come up within 15 s");
}
