//! The control channel to the guest agent.

use crate::backlog::Backlog;
use crate::clean;
use futures::StreamExt;
use particle_vm_protocol::frame::{self, FrameError, MAX_FRAME};
use particle_vm_protocol::{BUILD_ID, Failure, FromGuest, FromHost, PROTOCOL_VERSION};
use std::io;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// Why the control channel is of no use.
#[derive(Debug, Error)]
pub enum LinkError {
    /// It cannot be read. A frame over the limit is one of the reasons.
    #[error("the control channel to the guest is broken")]
    Read(#[source] io::Error),
    /// The guest sends something else than messages.
    #[error("the guest sent what is no message")]
    Frame(#[from] FrameError),
    /// The guest speaks out of turn.
    #[error("the guest sent another message than was due: {0}")]
    Unexpected(&'static str),
    /// The agent is not the one that belongs to this program.
    #[error("the agent in the guest is from another build of particle-vm (protocol {protocol}, build {build})")]
    OtherBuild {
        /// Its protocol version; ours is [`PROTOCOL_VERSION`].
        protocol: u32,
        /// The beginning of its build id.
        build: String,
    },
}

/// How the guest begins.
#[derive(Debug)]
pub enum Greeting {
    /// The agent is ready.
    Ready {
        /// `uname -r` of the guest.
        kernel: String,
    },
    /// The agent could not bring the machine up, and switches it off.
    Failed(Failure),
    /// The guest has closed the channel.
    Closed,
}

/// The host's end of the control channel.
#[derive(Debug)]
pub struct Link {
    reader: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    backlog: Backlog,
    writer: AbortHandle,
}

impl Link {
    /// Frames over `stream`.
    pub fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        let codec = LengthDelimitedCodec::builder()
            .little_endian()
            .length_field_type::<u32>()
            .max_frame_length(MAX_FRAME)
            .new_codec();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let backlog = Backlog::default();
        // A task of its own, so that a guest that takes nothing holds up nobody. What waits in the queue is bounded by
        // what is sent: one job, pings until the guest is given up, input while the backlog is small.
        let writer = tokio::spawn(drain(queue, write, backlog.clone())).abort_handle();
        Self { reader: FramedRead::new(read, codec), outgoing, backlog, writer }
    }

    /// Queue `message`. When the guest has gone, the next [`Self::receive`] says so.
    ///
    /// # Errors
    /// When the message is too long for a frame.
    pub fn send(&self, message: &FromHost) -> Result<(), LinkError> {
        let frame = frame::encode(message)?;
        self.backlog.add(frame.len());
        let _ = self.outgoing.send(frame);
        Ok(())
    }

    /// Bytes that were sent and that the guest has not taken yet.
    pub fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// The next message; None when the guest has closed the channel, or QEMU has ended. Can be dropped and called again without loss.
    ///
    /// # Errors
    /// When the channel breaks, or what comes is no message.
    pub async fn receive(&mut self) -> Result<Option<FromGuest>, LinkError> {
        match self.reader.next().await {
            Some(Ok(body)) => Ok(Some(frame::decode(&body)?)),
            // QEMU ended before it had taken all that was sent.
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Some(Err(error)) => Err(LinkError::Read(error)),
            None => Ok(None),
        }
    }

    /// Wait for the agent's first message, and compare its build with ours.
    ///
    /// # Errors
    /// When something else comes, or another build says hello.
    pub async fn hello(&mut self) -> Result<Greeting, LinkError> {
        match self.receive().await? {
            Some(FromGuest::Hello { protocol, build, kernel }) if protocol == PROTOCOL_VERSION && build == BUILD_ID => {
                Ok(Greeting::Ready { kernel: clean::line(&kernel).into_owned() })
            }
            Some(FromGuest::Hello { protocol, build, .. }) => {
                Err(LinkError::OtherBuild { protocol, build: clean::line(&build).chars().take(12).collect() })
            }
            Some(FromGuest::Failed(failure)) => Ok(Greeting::Failed(failure)),
            Some(_) => Err(LinkError::Unexpected("a hello is the first one")),
            None => Ok(Greeting::Closed),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

async fn drain(mut queue: mpsc::UnboundedReceiver<Vec<u8>>, mut write: OwnedWriteHalf, backlog: Backlog) {
    while let Some(frame) = queue.recv().await {
        if write.write_all(&frame).await.is_err() {
            return;
        }
        backlog.remove(frame.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn guest() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Link::new(ours), theirs)
    }

    fn hello(build: &str) -> FromGuest {
        FromGuest::Hello { protocol: PROTOCOL_VERSION, build: build.into(), kernel: "6.12".into() }
    }

    #[tokio::test]
    async fn our_own_agent_is_greeted() {
        let (mut link, mut guest) = guest();
        guest.write_all(&frame::encode(&hello(BUILD_ID)).unwrap()).await.unwrap();
        let greeting = link.hello().await.unwrap();
        assert!(matches!(&greeting, Greeting::Ready { kernel } if kernel == "6.12"), "{greeting:?}");
    }

    #[tokio::test]
    async fn an_agent_of_another_build_is_refused() {
        let (mut link, mut guest) = guest();
        guest.write_all(&frame::encode(&hello("0123456789abcdef")).unwrap()).await.unwrap();
        let error = link.hello().await.unwrap_err();
        assert!(matches!(&error, LinkError::OtherBuild { build, .. } if build == "0123456789ab"), "{error}");
    }

    #[tokio::test]
    async fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        let (mut link, mut guest) = guest();
        guest.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
        assert!(matches!(link.receive().await.unwrap_err(), LinkError::Read(_)));
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        let (mut link, mut guest) = guest();
        guest.write_all(b"\x02\0\0\0{}").await.unwrap();
        assert!(matches!(link.receive().await.unwrap_err(), LinkError::Frame(_)));
    }

    #[tokio::test]
    async fn a_closed_channel_is_told() {
        let (mut link, guest) = guest();
        drop(guest);
        assert!(link.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_guest_that_goes_before_it_has_read_all_has_closed_the_channel() {
        let (mut link, guest) = guest();
        link.send(&FromHost::Cancel).unwrap();
        tokio::time::timeout(Duration::from_secs(60), link.backlog().below(1)).await.unwrap();
        drop(guest);
        assert!(link.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_guest_that_reads_nothing_holds_up_nobody() {
        let (link, mut guest) = guest();
        for _ in 0..64 {
            link.send(&FromHost::Input(vec![0; 64 << 10])).unwrap();
        }
        let backlog = link.backlog();
        let below = |deadline| tokio::time::timeout(Duration::from_millis(deadline), backlog.below(1));
        assert!(below(100).await.is_err());
        tokio::spawn(async move { tokio::io::copy(&mut guest, &mut tokio::io::sink()).await });
        below(60_000).await.unwrap();
    }
}
