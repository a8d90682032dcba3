//! Which programs took the processor's time: for each process that ends, the kernel adds a record to a file; see acct(5).

use nix::unistd::acct;
use particle_vm_protocol::{MAX_PROGRAMS, Program};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of a record: `struct acct_v3` in Linux' `include/uapi/linux/acct.h`.
const RECORD: usize = 64;

/// `ac_version` of such a record.
const VERSION: u8 = 3;

/// Milliseconds of a tick in which times are counted (`AHZ` is 100).
const TICK: u64 = 10;

/// How many records are read at a time.
const AT_ONCE: usize = 1024;

/// The kernel's records.
#[derive(Debug)]
pub struct Accounting(File);

impl Accounting {
    /// Have the kernel write its records to the new file `path`.
    ///
    /// # Errors
    /// When the file cannot be made, or the kernel does not write to it.
    pub fn start(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        acct::enable(path)?;
        Ok(Self(file))
    }

    /// Where the next record will lie.
    pub fn position(&self) -> u64 {
        self.0.metadata().map_or(0, |file| file.len())
    }

    /// The programs whose records lie behind `offset` and that took most time, the greediest first.
    pub fn programs(&self, mut offset: u64) -> Vec<Program> {
        let mut programs = HashMap::new();
        let mut records = vec![0; AT_ONCE * RECORD];
        // An error of the file leaves out what cannot be read.
        while let Ok(read @ RECORD..) = self.0.read_at(&mut records, offset) {
            let (whole, _) = records[..read].as_chunks::<RECORD>();
            whole.iter().for_each(|record| add(&mut programs, record));
            offset += (whole.len() * RECORD) as u64;
        }
        let mut programs: Vec<_> = programs.into_values().collect();
        programs.sort_by(|a, b| b.cpu_milliseconds.cmp(&a.cpu_milliseconds).then_with(|| a.name.cmp(&b.name)));
        programs.truncate(MAX_PROGRAMS);
        programs
    }
}

fn add(programs: &mut HashMap<Vec<u8>, Program>, record: &[u8; RECORD]) {
    if record[1] & 0x7f != VERSION {
        return;
    }
    let time = |at: usize| ticks(u16::from_le_bytes([record[at], record[at + 1]])) * TICK;
    let name = record[48..].split(|byte| *byte == 0).next().unwrap_or_default();
    let program = programs.entry(name.to_vec()).or_insert_with(|| Program {
        name: String::from_utf8_lossy(name).into_owned(),
        runs: 0,
        cpu_milliseconds: 0,
    });
    program.runs += 1;
    program.cpu_milliseconds += time(32) + time(34);
}

/// The number in a `comp_t`: three bits of exponent to the base 8, thirteen of the fraction.
fn ticks(number: u16) -> u64 {
    u64::from(number & 0x1fff) << (3 * (number >> 13))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Folder;

    fn record(name: &str, user: u16, system: u16) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[1] = VERSION;
        record[32..34].copy_from_slice(&user.to_le_bytes());
        record[34..36].copy_from_slice(&system.to_le_bytes());
        record[48..48 + name.len()].copy_from_slice(name.as_bytes());
        record
    }

    #[test]
    fn the_greediest_come_first_and_few_come_at_all() {
        let mut records = vec![record("before", 100, 0)];
        records.extend((0..2000).map(|_| record("sh", 1, 0)));
        records.push(record("dpkg", 0x2000 | 1000, 2));
        records.extend((0..MAX_PROGRAMS).map(|n| record(&format!("small {n}"), 0, 0)));
        let mut bytes = records.concat();
        // One that is being written.
        bytes.extend([0; 10]);
        let folder = Folder::new("accounting");
        let path = folder.path().join("records");
        std::fs::write(&path, bytes).unwrap();
        let programs = Accounting(File::open(path).unwrap()).programs(RECORD as u64);
        let program = |name: &str, runs, cpu_milliseconds| Program { name: name.into(), runs, cpu_milliseconds };
        assert_eq!(programs[..2], [program("dpkg", 1, 80_020), program("sh", 2000, 20_000)]);
        assert_eq!(programs.len(), MAX_PROGRAMS);
    }
}
