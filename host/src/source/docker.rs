//! Images in docker's store, which its daemon hands out over its socket.
//!
//! Source: Docker Engine API 1.41, "Export several images" (`GET /images/get`).

use super::error::Problem;
use super::{Context, Image, docker_archive, document};
use crate::event::Unit;
use crate::workspace::Workspace;
use futures::StreamExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// How long the daemon may be silent: it puts an image together before it sends the first byte.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// Where the daemon listens, unless it is said otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// The same for the daemon of a user, in `$XDG_RUNTIME_DIR`.
const USER_SOCKET: &str = "docker.sock";

/// Most bytes of the archive beside those of its layers: documents, headers, what they are rounded up to.
const OVERHEAD: u64 = 64 << 20;

/// Most bytes of an error message.
const MAX_MESSAGE: usize = 64 << 10;

/// Have the daemon hand out the image, and read its archive.
///
/// # Errors
/// When the daemon is not there, or does not have the image.
pub async fn fetch(context: &Context<'_>, name: &str) -> Result<Image, Problem> {
    let socket = socket(|name| std::env::var(name).ok())?;
    let workspace = Workspace::new(&context.dirs.work()).map_err(Problem::Workspace)?;
    let archive = workspace.path().join("image.tar");
    download(context, &socket, &with_tag(name), &archive).await?;
    docker_archive::fetch(context, &archive, None).await
}

/// Without a tag, docker would hand out all tags.
fn with_tag(name: &str) -> String {
    let is_id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let last = name.rsplit('/').next().unwrap_or_default();
    if is_id || last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// The socket that docker's own client would use.
fn socket(variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf, Problem> {
    if let Some(value) = variable("DOCKER_HOST").filter(|value| !value.is_empty()) {
        let path = value.strip_prefix("unix://").filter(|path| path.starts_with('/')).map(PathBuf::from);
        return path.ok_or(Problem::DockerHost { value });
    }
    let own = variable("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join(USER_SOCKET));
    let system = PathBuf::from(SOCKET);
    Ok(own.filter(|own| !system.exists() && own.exists()).unwrap_or(system))
}

async fn download(context: &Context<'_>, socket: &Path, name: &str, archive: &Path) -> Result<(), Problem> {
    let silent = |reason: String| Problem::Docker { address: socket.display().to_string(), reason };
    let tls = crate::tls::none().map_err(|source| Problem::Tls { registry: "docker".into(), source })?;
    let client = reqwest::Client::builder().unix_socket(socket).no_proxy().read_timeout(SILENCE);
    let client = client.tls_backend_preconfigured(tls).redirect(reqwest::redirect::Policy::none());
    let client = client.build().map_err(Problem::Client)?;
    // The name of the host is of no importance.
    let url = reqwest::Url::parse_with_params("http://docker/images/get", [("names", name)]);
    let url = url.map_err(|error| silent(error.to_string()))?;
    let step = context.events.step(format!("docker: save {name}"), None, Unit::Bytes);
    let answer = client.get(url).send().await.map_err(|error| silent(super::registry::root_cause(&error)))?;
    let status = answer.status();
    let mut body = answer.bytes_stream();
    if !status.is_success() {
        let mut text = Vec::new();
        while let Some(Ok(chunk)) = body.next().await {
            text.extend_from_slice(&chunk[..chunk.len().min(MAX_MESSAGE - text.len())]);
            if text.len() == MAX_MESSAGE {
                break;
            }
        }
        #[derive(serde::Deserialize)]
        struct Message {
            message: String,
        }
        let message = serde_json::from_slice::<Message>(&text).map(|text| text.message).unwrap_or_default();
        return Err(Problem::DockerImage { status: status.as_u16(), message: document::shown(&message) });
    }
    let written = |source| Problem::Io { what: "write", path: archive.to_owned(), source };
    let mut file = tokio::fs::File::create_new(archive).await.map_err(written)?;
    let (mut size, most) = (0, context.options.max_size.saturating_add(OVERHEAD));
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| silent(super::registry::root_cause(&error)))?;
        size += chunk.len() as u64;
        if size > most {
            return Err(Problem::TooLarge { what: "its archive", size, most });
        }
        file.write_all(&chunk).await.map_err(written)?;
        step.progress(size);
    }
    file.flush().await.map_err(written)?;
    step.finish();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_one_of_dockers_own_client() {
        let found = |value: Option<&str>| socket(|name| value.filter(|_| name == "DOCKER_HOST").map(str::to_owned));
        assert_eq!(found(None).unwrap(), Path::new(SOCKET));
        assert_eq!(found(Some("")).unwrap(), Path::new(SOCKET));
        assert_eq!(found(Some("unix:///run/user/1/docker.sock")).unwrap(), Path::new("/run/user/1/docker.sock"));
        assert!(found(Some("tcp://example.org:2375")).unwrap_err().to_string().contains("only unix://"));
    }

    #[test]
    fn a_name_without_a_tag_means_the_latest() {
        assert_eq!(with_tag("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(with_tag("a:1"), "a:1");
        let id = "ab".repeat(32);
        assert_eq!(with_tag(&id), id);
    }
}
