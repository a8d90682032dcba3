//! The monitor of QEMU.

use futures::StreamExt;
use qapi::futures::{QapiService, QmpStreamTokio};
use qapi::qmp;
use std::io;
use tokio::io::WriteHalf;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;

pub use qapi::qmp::{RunState, ShutdownCause};

/// What QEMU tells that matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incident {
    /// The VM ends, and QEMU with it.
    Shutdown(ShutdownCause),
    /// The VM stands still; [`Qmp::state`] tells why.
    Stopped,
    /// A disk's file cannot be read or written.
    DiskError {
        /// Node name of the disk.
        disk: String,
        /// Whether it is for want of space.
        no_space: bool,
        /// The reason in the host's words.
        reason: String,
    },
}

/// The connection to the monitor.
pub struct Qmp {
    service: QapiService<QmpStreamTokio<WriteHalf<UnixStream>>>,
    // Behind a lock, so that a command can be under way while somebody waits for an incident.
    incidents: Mutex<mpsc::UnboundedReceiver<Incident>>,
    reader: AbortHandle,
}

impl std::fmt::Debug for Qmp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Qmp").finish_non_exhaustive()
    }
}

impl Qmp {
    /// Wait for QEMU's greeting and agree on capabilities.
    ///
    /// # Errors
    /// When QEMU closes the connection or sends something else.
    pub async fn connect(stream: UnixStream) -> io::Result<Self> {
        let (read, write) = tokio::io::split(stream);
        let connection = QmpStreamTokio::open_split(read, write).await?.negotiate().await?;
        let (service, events) = connection.into_parts();
        let (sender, incidents) = mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            // The stream also takes the answers to commands, so it is read without pause. It ends with QEMU, or with an
            // event that this version of the crate does not know; the process itself is watched elsewhere.
            let mut events = Box::pin(events);
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => event,
                    Err(error) => return tracing::warn!(%error, "what QEMU tells is not understood any more"),
                };
                let Some(incident) = incident(event) else { continue };
                if sender.send(incident).is_err() {
                    return;
                }
            }
        });
        Ok(Self { service, incidents: Mutex::new(incidents), reader: reader.abort_handle() })
    }

    /// The next incident; None when there will be none. Can be dropped and called again without loss.
    pub async fn incident(&self) -> Option<Incident> {
        self.incidents.lock().await.recv().await
    }

    /// Plug a device of type `driver` into `bus`, under the name `id`.
    ///
    /// # Errors
    /// When QEMU refuses or does not answer.
    pub async fn plug(
        &self,
        driver: &str,
        id: &str,
        bus: &str,
        properties: impl IntoIterator<Item = (&str, &str)>,
    ) -> io::Result<()> {
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        let device = qmp::device_add::new(driver, id.to_owned(), bus.to_owned(), properties);
        self.service.execute(device).await?;
        Ok(())
    }

    /// Pull the device `id` out again.
    ///
    /// # Errors
    /// When QEMU refuses or does not answer.
    pub async fn unplug(&self, id: &str) -> io::Result<()> {
        self.service.execute(qmp::device_del { id: id.to_owned() }).await?;
        Ok(())
    }

    /// Have all that is written from now on go to the node `overlay`, of which nothing is used yet, and leave `node` below it
    /// as it is.
    ///
    /// # Errors
    /// When QEMU refuses or does not answer.
    pub async fn snapshot(&self, node: &str, overlay: &str) -> io::Result<()> {
        let names = qapi::qmp::BlockdevSnapshot { node: node.to_owned(), overlay: overlay.to_owned() };
        self.service.execute(qmp::blockdev_snapshot(names)).await?;
        Ok(())
    }

    /// What the VM does.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub async fn state(&self) -> io::Result<RunState> {
        Ok(self.service.execute(qmp::query_status {}).await?.status)
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn incident(event: qmp::Event) -> Option<Incident> {
    tracing::debug!(?event, "QEMU");
    match event {
        qmp::Event::SHUTDOWN { data, .. } => Some(Incident::Shutdown(data.reason)),
        qmp::Event::STOP { .. } => Some(Incident::Stopped),
        qmp::Event::BLOCK_IO_ERROR { data, .. } => Some(Incident::DiskError {
            disk: data.node_name.unwrap_or(data.device),
            no_space: data.nospace.unwrap_or(false),
            reason: data.reason,
        }),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod imagined;
