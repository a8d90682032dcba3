//! The initramfs: the modules of the appliance and the agent, which belongs to this build of particle-vm.

use cpio::newc::{self, ModeFileType};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Archives in an initramfs begin at multiples of this.
const ALIGNMENT: u64 = 4;

/// Write the archive `modules` and one with `agent` as `/init` to `path`.
///
/// # Errors
/// When `modules` cannot be read or `path` cannot be written.
pub fn write(path: &Path, modules: &Path, agent: &[u8]) -> io::Result<()> {
    let size = u32::try_from(agent.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut file = File::create(path)?;
    let length = io::copy(&mut File::open(modules)?, &mut file)?;
    let padding = length.next_multiple_of(ALIGNMENT) - length;
    file.write_all(&[0; ALIGNMENT as usize][..padding as usize])?;
    let init = newc::Builder::new("init").mode(0o755).set_mode_file_type(ModeFileType::Regular);
    let mut writer = init.write(&mut file, size);
    writer.write_all(agent)?;
    writer.finish()?;
    newc::trailer(&mut file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_agent_follows_the_modules() {
        let dir = tempfile::tempdir().unwrap();
        let (modules, path) = (dir.path().join("modules.cpio"), dir.path().join("initramfs"));
        // Not a multiple of four.
        let mut archive = newc::trailer(Vec::new()).unwrap();
        archive.truncate(archive.len() / 4 * 4 - 2);
        std::fs::write(&modules, &archive).unwrap();
        write(&path, &modules, b"the agent").unwrap();
        let whole = std::fs::read(&path).unwrap();
        let start = archive.len().next_multiple_of(4);
        let mut reader = newc::Reader::new(&whole[start..]).unwrap();
        assert_eq!((reader.entry().name(), reader.entry().mode()), ("init", 0o100_755));
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"the agent");
    }
}
