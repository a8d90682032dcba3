//! The control channel to the host.

use crate::cancel::Cancel;
use crate::outbox::Outbox;
use crate::ports::{self, PortError};
use crate::power;
use crate::report;
use nix::sys::time::TimeSpec;
use nix::sys::utsname::uname;
use nix::time::{ClockId, clock_settime};
use particle_vm_protocol::frame::{self, FrameError, PREFIX};
use particle_vm_protocol::message::TerminalSize;
use particle_vm_protocol::{BUILD_ID, CONTROL_PORT, FromGuest, FromHost, Job, PROTOCOL_VERSION};
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;
use thiserror::Error;

/// Why there is no control channel.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The port cannot be used.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The kernel does not give what is needed.
    #[error("cannot set up the control channel")]
    Setup(#[source] io::Error),
    /// The channel has failed.
    #[error("cannot read the control channel")]
    Read(#[source] io::Error),
    /// The host sends something else than messages.
    #[error("the host has sent what is no message")]
    Frame(#[from] FrameError),
}

/// Input for a command with a terminal or pipes.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes to read.
    Bytes(Vec<u8>),
    /// There are no more.
    End,
    /// The terminal has another size.
    Resize(TerminalSize),
    /// The host has kept what the scratch disk held.
    Kept,
}

/// The control channel. When the host closes it, the machine is powered off.
#[derive(Debug)]
pub struct Link {
    /// The way to the host.
    pub outbox: Arc<Outbox>,
    /// Set when the host cancels the job.
    pub cancel: Arc<Cancel>,
    jobs: Receiver<(Job, Receiver<Input>)>,
}

impl Link {
    /// Open the control port and serve it on two threads.
    ///
    /// # Errors
    /// When the port does not appear or cannot be opened.
    pub fn open() -> Result<Self, LinkError> {
        let port = ports::open(CONTROL_PORT)?;
        let outbox = Arc::new(Outbox::default());
        let cancel = Arc::new(Cancel::new().map_err(LinkError::Setup)?);
        let (job_sender, jobs) = mpsc::channel();
        let reading = port.try_clone().map_err(LinkError::Setup)?;
        let mut dispatch =
            Dispatch { outbox: Arc::clone(&outbox), cancel: Arc::clone(&cancel), jobs: job_sender, input: None };
        thread::spawn(move || {
            if let Err(error) = dispatch.serve(reading) {
                report::complain(&error);
            }
            power::off();
        });
        let writing = Arc::clone(&outbox);
        thread::spawn(move || {
            if let Err(error) = writing.write_to(port) {
                report::complain(&error);
            }
            power::off();
        });
        Ok(Self { outbox, cancel, jobs })
    }

    /// Tell the host that the machine is ready.
    pub fn say_hello(&self) {
        let kernel = uname().map(|names| names.release().to_string_lossy().into_owned()).unwrap_or_default();
        self.outbox.send(&FromGuest::Hello { protocol: PROTOCOL_VERSION, build: BUILD_ID.into(), kernel });
    }

    /// Wait for the next job, which comes with its input. None when there will be none, as the machine is being powered
    /// off.
    pub fn next_job(&self) -> Option<(Job, Receiver<Input>)> {
        self.jobs.recv().ok()
    }
}

/// What the reading thread does with messages. It never waits for anything but the host, so that a ping is always
/// answered and a cancel always heard.
struct Dispatch {
    outbox: Arc<Outbox>,
    cancel: Arc<Cancel>,
    jobs: Sender<(Job, Receiver<Input>)>,
    /// Where the last job's input goes.
    input: Option<Sender<Input>>,
}

impl Dispatch {
    /// Serve until the host closes the channel or asks for the power-off.
    fn serve(&mut self, mut port: impl Read) -> Result<(), LinkError> {
        while let Some(message) = read(&mut port)? {
            match message {
                FromHost::Time(since_epoch) => set_clock(since_epoch),
                FromHost::Start(job) => {
                    // The host starts a job when the one before has ended, so that this cancel was meant for that one.
                    self.cancel.clear();
                    // Input may follow at once, before the job is looked at.
                    let (sender, receiver) = mpsc::channel();
                    self.input = Some(sender);
                    // Fails when the machine is being powered off.
                    let _ = self.jobs.send((*job, receiver));
                }
                FromHost::Ping(number) => self.outbox.send(&FromGuest::Pong(number)),
                FromHost::Cancel => self.cancel.set(),
                FromHost::Input(bytes) => self.input(Input::Bytes(bytes)),
                FromHost::InputEnd => self.input(Input::End),
                FromHost::Resize(size) => self.input(Input::Resize(size)),
                FromHost::Kept => self.input(Input::Kept),
                FromHost::PowerOff => break,
            }
        }
        Ok(())
    }

    fn input(&self, input: Input) {
        if let Some(sender) = &self.input {
            // Fails when nothing reads it: the command has ended meanwhile.
            let _ = sender.send(input);
        }
    }
}

/// Without the right time most still works, and what does not says so.
fn set_clock(since_epoch: Duration) {
    if let Err(error) = clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since_epoch)) {
        report::complain(&error);
    }
}

/// The next message; none when the host has closed the channel.
fn read(port: &mut impl Read) -> Result<Option<FromHost>, LinkError> {
    let mut prefix = [0; PREFIX];
    match port.read_exact(&mut prefix) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(LinkError::Read(error)),
    }
    let mut body = vec![0; frame::body_length(prefix)?];
    port.read_exact(&mut body).map_err(LinkError::Read)?;
    Ok(Some(frame::decode(&body)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dispatch() -> (Dispatch, Receiver<(Job, Receiver<Input>)>) {
        let (jobs, receiver) = mpsc::channel();
        let cancel = Arc::new(Cancel::new().unwrap());
        (Dispatch { outbox: Arc::default(), cancel, jobs, input: None }, receiver)
    }

    #[test]
    fn each_message_reaches_whom_it_is_for() {
        let (mut dispatch, jobs) = dispatch();
        let messages = [
            FromHost::InputEnd,
            FromHost::Start(Box::new(Job::Hello)),
            FromHost::Ping(3),
            FromHost::Input(b"x".to_vec()),
            FromHost::InputEnd,
            FromHost::Cancel,
            FromHost::PowerOff,
            FromHost::InputEnd,
        ];
        let bytes: Vec<u8> = messages.iter().flat_map(|message| frame::encode(message).unwrap()).collect();
        dispatch.serve(bytes.as_slice()).unwrap();
        let (job, input) = jobs.try_recv().unwrap();
        assert_eq!(job, Job::Hello);
        assert_eq!(input.try_iter().collect::<Vec<_>>(), [Input::Bytes(b"x".to_vec()), Input::End]);
        assert!(dispatch.cancel.is_set());
    }

    #[test]
    fn a_closed_channel_is_an_end_and_half_a_message_is_an_error() {
        let (mut dispatch, _) = dispatch();
        dispatch.serve(&b""[..]).unwrap();
        let frame = frame::encode(&FromHost::PowerOff).unwrap();
        assert!(matches!(dispatch.serve(&frame[..frame.len() - 1]), Err(LinkError::Read(_))));
        assert!(matches!(dispatch.serve(&[255; 8][..]), Err(LinkError::Frame(_))));
    }
}
