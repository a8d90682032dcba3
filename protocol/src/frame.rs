//! Framing of the control channel: a little-endian `u32` length, then that many bytes of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Largest body of a frame in bytes. A peer that announces more is broken or hostile, and the connection ends.
pub const MAX_FRAME: usize = 4 << 20;

/// Length of the prefix in bytes.
pub const PREFIX: usize = 4;

/// Why a frame could not be made or read.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The length is above [`MAX_FRAME`].
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// The body is not the JSON of the expected type.
    #[error("a frame does not hold what was expected")]
    Json(#[from] serde_json::Error),
}

/// The whole frame for `message`.
///
/// # Errors
/// [`FrameError::TooLong`] above [`MAX_FRAME`], [`FrameError::Json`] when a map key is not a string.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; PREFIX];
    serde_json::to_writer(&mut frame, message)?;
    let body = frame.len() - PREFIX;
    let prefix = u32::try_from(body).ok().filter(|_| body <= MAX_FRAME);
    frame[..PREFIX].copy_from_slice(&prefix.ok_or(FrameError::TooLong(body))?.to_le_bytes());
    Ok(frame)
}

/// The length of the body that follows `prefix`.
///
/// # Errors
/// [`FrameError::TooLong`] above [`MAX_FRAME`].
pub fn body_length(prefix: [u8; PREFIX]) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    Ok(length)
}

/// The message in `body`.
///
/// # Errors
/// [`FrameError::Json`] when the body is not such a message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FromHost;

    #[test]
    fn a_frame_comes_back_as_it_was() {
        let frame = encode(&FromHost::Ping(7)).unwrap();
        let (prefix, body) = frame.split_at(PREFIX);
        assert_eq!(body_length(prefix.try_into().unwrap()).unwrap(), body.len());
        assert_eq!(decode::<FromHost>(body).unwrap(), FromHost::Ping(7));
    }

    #[test]
    fn a_length_over_the_limit_is_refused() {
        let error = body_length(u32::MAX.to_le_bytes()).unwrap_err();
        assert!(matches!(error, FrameError::TooLong(_)), "{error}");
        let error = encode(&FromHost::Input("x".repeat(MAX_FRAME).into_bytes())).unwrap_err();
        assert!(matches!(error, FrameError::TooLong(_)), "{error}");
    }

    #[test]
    fn a_body_that_is_no_message_is_refused() {
        assert!(matches!(decode::<FromHost>(b"{\"Pong\":7}").unwrap_err(), FrameError::Json(_)));
    }
}
