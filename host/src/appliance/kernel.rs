//! The uncompressed kernel inside a bzImage, for QEMU to start it through PVH.
//!
//! Source of the layout: "The Linux/x86 Boot Protocol", Documentation/arch/x86/boot.rst of the kernel.

use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, elf};
use std::io::{self, Read};
use std::ops::Range;
use thiserror::Error;

/// Most bytes of an uncompressed kernel. Debian's cloud kernel has 55 MiB.
const MAX_KERNEL: u64 = 512 << 20;

/// Note of the PVH entry point: `XEN_ELFNOTE_PHYS32_ENTRY`, xen/interface/elfnote.h.
const PHYS32_ENTRY: elf::NoteType = elf::NoteType(18);

/// Why a kernel cannot be used.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The file is no bzImage.
    #[error("it is no bzImage of boot protocol 2.08 or later")]
    NotBzImage,
    /// The payload is compressed in another way than Debian does.
    #[error("its compression is not known (it begins with {0:02x?})")]
    Compression([u8; 4]),
    /// The payload cannot be unpacked.
    #[error("it cannot be unpacked")]
    Unpack(#[source] io::Error),
    /// What is inside is no ELF file.
    #[error("what is inside is no ELF file")]
    Elf(#[source] object::Error),
    /// It was built without CONFIG_PVH.
    #[error("it has no PVH entry point")]
    NoPvh,
    /// A module cannot be read.
    #[error("the module {module} cannot be used: {reason}")]
    Module {
        /// Its name.
        module: String,
        /// Why.
        reason: String,
    },
}

/// The ELF kernel inside `image`, with its PVH note checked.
///
/// # Errors
/// When `image` is no such kernel.
pub fn vmlinux(image: &[u8]) -> Result<Vec<u8>, KernelError> {
    let payload = image.get(payload(image).ok_or(KernelError::NotBzImage)?).ok_or(KernelError::NotBzImage)?;
    let magic: [u8; 4] = payload.first_chunk().copied().ok_or(KernelError::NotBzImage)?;
    let decoder: Box<dyn Read> = match magic {
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::with_buffer(payload).map_err(KernelError::Unpack)?.single_frame();
            // The kernel is packed with `zstd --ultra -22`, whose window has 128 MiB.
            decoder.window_log_max(27).map_err(KernelError::Unpack)?;
            Box::new(decoder)
        }
        [0xfd, b'7', b'z', b'X'] => Box::new(liblzma::read::XzDecoder::new(payload)),
        [0x7f, b'E', b'L', b'F'] => Box::new(payload),
        other => return Err(KernelError::Compression(other)),
    };
    let mut kernel = Vec::new();
    decoder.take(MAX_KERNEL).read_to_end(&mut kernel).map_err(KernelError::Unpack)?;
    if !has_pvh(&kernel).map_err(KernelError::Elf)? {
        return Err(KernelError::NoPvh);
    }
    Ok(kernel)
}

/// Where the compressed kernel lies: fields `setup_sects`, `header`, `version`, `payload_offset`, `payload_length`.
fn payload(image: &[u8]) -> Option<Range<usize>> {
    let u32_at = |offset: usize| image.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
    let version = u16::from_le_bytes(*image.get(0x206..)?.first_chunk()?);
    if image.get(0x202..0x206)? != b"HdrS" || version < 0x208 {
        return None;
    }
    // "The setup code is setup_sects + 1 sectors long; 0 means 4."
    let setup = match image.get(0x1f1)? {
        0 => 5,
        sectors => usize::from(*sectors) + 1,
    };
    let start = (setup * 512).checked_add(u32_at(0x248)?)?;
    Some(start..start.checked_add(u32_at(0x24c)?)?)
}

fn has_pvh(kernel: &[u8]) -> Result<bool, object::Error> {
    let header = elf::FileHeader64::<LittleEndian>::parse(kernel)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, kernel)? {
        let Some(mut notes) = segment.notes(endian, kernel)? else { continue };
        while let Some(note) = notes.next()? {
            if note.name() == b"Xen" && note.n_type(endian) == PHYS32_ENTRY {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 3 * 512];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend([0; 16]);
        image.extend(payload);
        image.extend(b"what follows");
        image
    }

    /// An ELF file with one segment that holds one note.
    fn elf(name: &[u8; 4], kind: elf::NoteType) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([2, 0, 0x3e, 0, 1, 0, 0, 0]);
        file.extend(0_u64.to_le_bytes());
        file.extend(64_u64.to_le_bytes());
        file.extend([0; 12]);
        file.extend([64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
        file.extend(4_u32.to_le_bytes());
        file.extend([4, 0, 0, 0]);
        for number in [120_u64, 0, 0, 20, 20, 4] {
            file.extend(number.to_le_bytes());
        }
        for number in [4_u32, 4, kind.0] {
            file.extend(number.to_le_bytes());
        }
        file.extend(name);
        file.extend([0; 4]);
        file
    }

    #[test]
    fn the_kernel_is_taken_out() {
        let kernel = elf(b"Xen\0", PHYS32_ENTRY);
        let packed = zstd::encode_all(&kernel[..], 1).unwrap();
        assert_eq!(vmlinux(&image(&packed)).unwrap(), kernel);
        assert_eq!(vmlinux(&image(&kernel)).unwrap(), kernel);
    }

    #[test]
    fn a_kernel_that_pvh_cannot_start_is_refused() {
        assert!(matches!(vmlinux(&image(&elf(b"GNU\0", PHYS32_ENTRY))), Err(KernelError::NoPvh)));
        assert!(matches!(vmlinux(&image(&elf(b"Xen\0", elf::NoteType(6)))), Err(KernelError::NoPvh)));
    }

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(matches!(vmlinux(b""), Err(KernelError::NotBzImage)));
        assert!(matches!(vmlinux(&[0; 4096]), Err(KernelError::NotBzImage)));
        assert!(matches!(vmlinux(&image(b"\x1f\x8b\x08\x00")), Err(KernelError::Compression(_))));
        assert!(matches!(vmlinux(&image(b"\x28\xb5\x2f\xfdxxxx")), Err(KernelError::Unpack(_))));
        let mut short = image(b"\x28\xb5\x2f\xfd");
        short.truncate(1540);
        assert!(matches!(vmlinux(&short), Err(KernelError::NotBzImage)));
    }
}
