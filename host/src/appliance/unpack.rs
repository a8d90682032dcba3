//! Verifying and unpacking of all packages, several at once.

use super::background::GivenUp;
use super::deb::{self, Deb, Spool};
use super::error::ApplianceError;
use super::fetch::{Package, Packages};
use crate::event::Step;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// The unpacked packages.
pub struct Unpacked {
    /// Those of the root file system, in the order in which they were resolved.
    pub root: Vec<Deb>,
    /// The kernel.
    pub kernel: Deb,
    /// The firmware.
    pub firmware: Deb,
}

/// Which files of each package are kept.
pub struct Keep<'a> {
    /// Of the root file system.
    pub root: &'a (dyn Fn(&Path) -> bool + Sync),
    /// Of the kernel.
    pub kernel: &'a (dyn Fn(&Path) -> bool + Sync),
    /// Of the firmware.
    pub firmware: &'a (dyn Fn(&Path) -> bool + Sync),
}

/// Unpack `packages`, whose files lie in `archives`; contents go to spool files in `spools`. `step` counts the packages.
///
/// # Errors
/// The first package that is not what it should be, or [`ApplianceError::GivenUp`] when nobody waits any more.
pub fn all(
    packages: &Packages,
    archives: &Path,
    spools: &Path,
    keep: &Keep<'_>,
    given_up: &GivenUp,
    step: &Step,
) -> Result<Unpacked, ApplianceError> {
    // The kernel takes longest and comes first.
    let mut jobs = vec![(&packages.kernel, keep.kernel), (&packages.firmware, keep.firmware)];
    jobs.extend(packages.root.iter().map(|package| (package, keep.root)));
    let results: Vec<Mutex<Option<Deb>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let (next, done, failed) = (AtomicUsize::new(0), AtomicU64::new(0), Mutex::new(None));

    let work = || -> Result<(), ApplianceError> {
        let mut spool = Spool::new(spools, given_up).map_err(ApplianceError::io("create a file in", spools))?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((package, keep)) = jobs.get(index) else { return Ok(()) };
            given_up.check()?;
            let deb = unpack(archives, package, &mut spool, keep)?;
            *lock(&results[index]) = Some(deb);
            step.progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(8);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                if let Err(error) = work() {
                    // The others stop at their next package.
                    next.store(jobs.len(), Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                }
            });
        }
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let mut debs = results.into_iter().map(|result| lock(&result).take().ok_or(ApplianceError::GivenUp));
    let (Some(kernel), Some(firmware)) = (debs.next(), debs.next()) else { return Err(ApplianceError::GivenUp) };
    Ok(Unpacked { kernel: kernel?, firmware: firmware?, root: debs.collect::<Result<_, _>>()? })
}

fn unpack(
    archives: &Path,
    package: &Package,
    spool: &mut Spool,
    keep: &dyn Fn(&Path) -> bool,
) -> Result<Deb, ApplianceError> {
    deb::unpack(&archives.join(&package.file), package, spool, keep)
        .map_err(|source| ApplianceError::Package { package: package.file.clone(), source })
}

/// A thread that panicked has not left a half-written value behind: each is written in one step.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
