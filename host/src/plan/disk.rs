//! The disk with every size in bytes and every UUID chosen.

use super::identity::Identity;
use super::*;
use crate::recipe::{EDGE, Partition};
use particle_vm_protocol::{self as protocol, Disk, Filesystem, FormattedFilesystem};

/// Resolves the disk of `recipe`; none when none of its formats has one.
///
/// # Errors
/// When its partitions do not fit.
pub fn resolve(recipe: &Recipe, identity: &Identity) -> Result<Option<Disk>, PlanError> {
    let Some(disk) = recipe.disk.as_ref().filter(|_| recipe.makes_disk()) else { return Ok(None) };
    let size = disk.size.unwrap_or_default().0;
    let partitions = layout(disk, recipe.bootloader());
    let fixed: u64 = partitions.iter().filter_map(|partition| partition.size).map(|size| size.0).sum();
    let Some(rest) = size.checked_sub(fixed + 2 * EDGE) else {
        let path = Path::root().key("disk").key("size");
        let message = format!("the partitions take {}, the disk has {}", Size(fixed + 2 * EDGE), Size(size));
        return Err(Findings::from(recipe.finding(&path, message)).into());
    };
    let last = partitions.len().saturating_sub(1);
    let resolved = partitions.iter().enumerate().map(|(index, partition)| {
        // Only the last one can take "the rest" of a table; one before it gets the figure.
        let size = match partition.size {
            Some(size) => Some(size.0),
            None if index == last => None,
            None => Some(rest / MIB * MIB),
        };
        resolve_partition(partition, size, identity)
    });
    Ok(Some(Disk {
        size,
        sector_size: disk.sector_size,
        uuid: identity.uuid("disk").to_string(),
        partitions: resolved.collect(),
    }))
}

fn resolve_partition(partition: &Partition, size: Option<u64>, identity: &Identity) -> protocol::Partition {
    let label = partition.label.clone().unwrap_or_default();
    let of_partition = || identity.uuid(&format!("partition {label}")).to_string();
    let filesystem = partition.filesystem.map(|kind| {
        let name = format!("filesystem {label}");
        match kind {
            Filesystem::Vfat => {
                FormattedFilesystem { kind, label: label.to_uppercase(), uuid: identity.volume_id(&name) }
            }
            _ => FormattedFilesystem { kind, label: label.clone(), uuid: identity.uuid(&name).to_string() },
        }
    });
    protocol::Partition {
        kind: partition.kind,
        uuid: partition.uuid.as_ref().map_or_else(of_partition, |uuid| uuid.to_lowercase()),
        label,
        size,
        filesystem,
        mountpoint: partition.mountpoint.clone(),
        options: partition.options.clone(),
    }
}
