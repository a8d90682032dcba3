//! What stands before an entry and belongs to it: records of PAX archives, long names of GNU tar.

use super::{LayerError, broken};
use std::io;

/// Longest of them in bytes. Extended attributes have 64 KiB at most (xattr(7)), all those of a file together in ext4 less.
pub(super) const MAX: u64 = 1 << 20;

/// How the names of extended attributes begin in PAX records.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// The label of SELinux, which belongs to the policy of the machine that it was made on.
const SELINUX: &[u8] = b"security.selinux";

/// Name and value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Key and value.
type Record = (Vec<u8>, Vec<u8>);

/// The records of one entry.
#[derive(Debug, Default)]
pub(super) struct Records {
    pax: Vec<Record>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Records {
    /// Whether an entry of this type is a record for the one after it.
    pub(super) fn takes(&self, kind: tar::EntryType) -> bool {
        kind.is_pax_local_extensions() || kind.is_gnu_longname() || kind.is_gnu_longlink()
    }

    /// Take one.
    pub(super) fn take(&mut self, kind: tar::EntryType, bytes: Vec<u8>) -> Result<(), LayerError> {
        let text = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        if kind.is_gnu_longname() {
            self.long_path = Some(text(&bytes));
        } else if kind.is_gnu_longlink() {
            self.long_link = Some(text(&bytes));
        } else {
            self.pax.extend(parse(&bytes)?);
        }
        Ok(())
    }

    /// The last value of a key; the last one counts (pax(1)).
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.pax.iter().rev().find(|(name, _)| name == key.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// All records in their order.
    pub(super) fn all(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pax.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// A number among them.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, LayerError> {
        self.get(key).map(|value| decimal(key, value)).transpose()
    }

    pub(super) fn path(&self, header: &tar::Header) -> Vec<u8> {
        let named = self.get("GNU.sparse.name").or_else(|| self.get("path"));
        let long = self.long_path.as_deref();
        named.or(long).map_or_else(|| header.path_bytes().into_owned(), <[u8]>::to_vec)
    }

    pub(super) fn link(&self, header: &tar::Header) -> Vec<u8> {
        let named = self.get("linkpath").or(self.long_link.as_deref());
        named.map(<[u8]>::to_vec).or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default()
    }

    /// How many bytes the archive has of the entry.
    pub(super) fn size(&self, header: &tar::Header) -> Result<u64, LayerError> {
        match self.number("size")? {
            Some(size) => Ok(size),
            None => header.entry_size().map_err(|error| broken(&error)),
        }
    }

    /// `uid` or `gid`.
    pub(super) fn id(&self, key: &str, of_header: io::Result<u64>) -> Result<u32, LayerError> {
        let id = match self.number(key)? {
            Some(id) => id,
            None => of_header.map_err(|error| broken(&error))?,
        };
        u32::try_from(id).map_err(|_| LayerError::Broken(format!("the {key} {id}")))
    }

    /// Seconds and nanoseconds; a time that is none is 0.
    pub(super) fn mtime(&self, header: &tar::Header) -> Result<(i64, u32), LayerError> {
        let Some(value) = self.get("mtime") else {
            let seconds = header.mtime().map_err(|error| broken(&error))?;
            return Ok((i64::try_from(seconds).unwrap_or(0), 0));
        };
        let text = String::from_utf8_lossy(value);
        let (seconds, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
        let (seconds, nanoseconds) = (seconds.parse::<i64>(), digits.parse::<u32>());
        match (seconds, nanoseconds) {
            // Before 1970 the fraction counts backwards; nobody needs it.
            (Ok(seconds), Ok(nanoseconds)) => Ok((seconds, if text.starts_with('-') { 0 } else { nanoseconds })),
            _ => Err(LayerError::Broken(format!("the time {text:?}"))),
        }
    }

    pub(super) fn xattrs(&self) -> Result<Vec<Xattr>, LayerError> {
        let mut found: Vec<Xattr> = Vec::new();
        for (key, value) in self.all() {
            let Some(name) = key.strip_prefix(XATTR) else { continue };
            if name.is_empty() || name.contains(&0) {
                return Err(LayerError::Broken("an extended attribute without a name".into()));
            }
            found.retain(|(other, _)| other != name);
            if name != SELINUX {
                found.push((name.to_vec(), value.to_vec()));
            }
        }
        Ok(found)
    }
}

/// A number in decimal digits.
pub(super) fn decimal(what: &str, value: &[u8]) -> Result<u64, LayerError> {
    let digits = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok());
    number.ok_or_else(|| LayerError::Broken(format!("{what} is {:?}", String::from_utf8_lossy(value))))
}

/// Records of the form `LENGTH KEY=VALUE\n` (pax(1), "pax Extended Header"); the length counts all of it.
fn parse(mut bytes: &[u8]) -> Result<Vec<Record>, LayerError> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let record = || {
            let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
            let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            Some((length, record[..equals].to_vec(), record[equals + 1..].to_vec()))
        };
        let (length, key, value) = record().ok_or_else(|| LayerError::Broken("a PAX record".into()))?;
        bytes = &bytes[length..];
        records.push((key, value));
    }
    Ok(records)
}
