//! Files with holes, in the four forms that GNU tar has given them ("Storing Sparse Files" of its manual).

use super::records::{Records, decimal};
use super::{BLOCK, Layer, LayerError, broken};
use std::io::Read;

/// Where the pieces of a file that are no holes begin, and how long they are.
pub(super) type Map = Vec<(u64, u64)>;

/// Most pieces of a file.
const MAX_PIECES: usize = 1 << 20;

/// The map of the current entry and its size with its holes; none when it is no such file. What of it stands before the
/// content is taken out of the archive.
pub(super) fn read<R: Read>(
    layer: &mut Layer<R>,
    header: &tar::Header,
    records: &Records,
) -> Result<Option<(Map, u64)>, LayerError> {
    let (map, size) = if header.entry_type().is_gnu_sparse() {
        let gnu = header.as_gnu().ok_or_else(|| wrong("it is of another format"))?;
        (old(layer, gnu)?, gnu.real_size().map_err(|error| broken(&error))?)
    } else if records.get("GNU.sparse.major") == Some(b"1") {
        let size = records.number("GNU.sparse.realsize")?.ok_or_else(|| wrong("it has no size"))?;
        (in_content(layer)?, size)
    } else if let Some(size) = records.number("GNU.sparse.size")? {
        (in_records(records)?, size)
    } else {
        return Ok(None);
    };
    check(&map, size, layer.stored)?;
    Ok(Some((map.into_iter().filter(|(_, length)| *length > 0).collect(), size)))
}

/// The pieces come one after the other, lie in the file, and are what the archive has.
fn check(map: &Map, size: u64, stored: u64) -> Result<(), LayerError> {
    let mut end = 0;
    for (offset, length) in map {
        if *offset < end {
            return Err(wrong("its pieces overlap"));
        }
        end =
            offset.checked_add(*length).filter(|end| *end <= size).ok_or_else(|| wrong("a piece is beyond its end"))?;
    }
    if map.iter().map(|(_, length)| length).sum::<u64>() != stored {
        return Err(wrong("its pieces are not what the archive has"));
    }
    Ok(())
}

/// The old form: in the header, and in blocks after it.
fn old<R: Read>(layer: &mut Layer<R>, gnu: &tar::GnuHeader) -> Result<Map, LayerError> {
    let mut map = Map::new();
    let mut add = |entries: &[tar::GnuSparseHeader]| {
        for entry in entries.iter().filter(|entry| !entry.is_empty()) {
            let piece = entry.offset().and_then(|offset| Ok((offset, entry.length()?)));
            map.push(piece.map_err(|error| broken(&error))?);
        }
        if map.len() > MAX_PIECES { Err(wrong("it has too many pieces")) } else { Ok(()) }
    };
    add(&gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let mut next = tar::GnuExtSparseHeader::new();
        let mut block = [0; BLOCK];
        if !layer.block(&mut block)? {
            return Err(super::ends());
        }
        next.as_mut_bytes().copy_from_slice(&block);
        add(next.sparse())?;
        more = next.is_extended();
    }
    Ok(map)
}

/// Versions 0.0 and 0.1: in records.
fn in_records(records: &Records) -> Result<Map, LayerError> {
    if let Some(map) = records.get("GNU.sparse.map") {
        let numbers: Result<Vec<_>, _> = map
            .split(|byte| *byte == b',')
            .filter(|number| !number.is_empty())
            .map(|number| decimal("a hole", number))
            .collect();
        let numbers = numbers?;
        return Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
    }
    let mut map = Map::new();
    let mut offset = None;
    for (key, value) in records.all() {
        match key {
            b"GNU.sparse.offset" => offset = Some(decimal("a hole", value)?),
            b"GNU.sparse.numbytes" => {
                let offset = offset.take().ok_or_else(|| wrong("a piece has no place"))?;
                map.push((offset, decimal("a hole", value)?));
            }
            _ => {}
        }
    }
    Ok(map)
}

/// Version 1.0: lines of decimal numbers before the content, filled up to a whole block.
fn in_content<R: Read>(layer: &mut Layer<R>) -> Result<Map, LayerError> {
    let mut text = Vec::new();
    let mut next = 0;
    let mut number = |layer: &mut Layer<R>| loop {
        if let Some(length) = text[next..].iter().position(|byte| *byte == b'\n') {
            let number = decimal("a hole", &text[next..next + length])?;
            next += length + 1;
            return Ok(number);
        }
        let mut block = [0; BLOCK];
        if layer.stored < BLOCK as u64 || !layer.block(&mut block)? {
            return Err(wrong("its list of pieces has no end"));
        }
        layer.stored -= BLOCK as u64;
        text.extend_from_slice(&block);
    };
    let count = usize::try_from(number(layer)?).ok().filter(|count| *count <= MAX_PIECES);
    let count = count.ok_or_else(|| wrong("it has too many pieces"))?;
    (0..count).map(|_| Ok((number(layer)?, number(layer)?))).collect()
}

fn wrong(what: &str) -> LayerError {
    LayerError::Broken(format!("a file with holes is not as it should be: {what}"))
}
