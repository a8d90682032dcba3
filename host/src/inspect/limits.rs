//! How much of an image is taken in. Whoever made it may want to fill this machine's memory or never come to an end.

pub(super) use crate::source::MAX_LAYERS as LAYERS;

/// Most bytes of the configuration and of the manifest; registries take 4 MiB.
pub(super) const DOCUMENT: usize = 4 << 20;

/// Most entries of all layers together. A desktop has 400,000.
pub(super) const ENTRIES: u64 = 2_000_000;

/// Most bytes of all names in the merged tree.
pub(super) const NAMES: usize = 256 << 20;

/// Longest path, and longest name in it: what Linux takes (`PATH_MAX`, `NAME_MAX`; limits.h(0p)).
pub(super) const PATH: usize = 4096;
/// See [`PATH`].
pub(super) const NAME: usize = 255;

/// Most bytes of an extended header of pax(1) or of a long name; those with extended attributes have some KiB.
pub(super) const HEADER: u64 = 1 << 20;

/// Most bytes of all contents of files that are kept.
pub(super) const KEPT: u64 = 32 << 20;

/// Most bytes that all initramfs of the image together unpack to. A general one with firmware has 600 MiB.
pub(super) const INITRAMFS: u64 = 2 << 30;

/// What each archive in an initramfs counts for at least, however little it unpacks to: its decoder has to be made.
pub(super) const SEGMENT: u64 = 64 << 10;

/// Most entries of one initramfs.
pub(super) const INITRAMFS_ENTRIES: u64 = 200_000;

/// Most kernels, and most initramfs and unified kernel images, that are looked into.
pub(super) const KERNELS: usize = 64;

/// Most files of a folder that are looked into. Each may be a link to one that is large.
pub(super) const FILES: usize = 1000;

/// Most files of a kind that each are parsed whole.
pub(super) const CONFIGS: usize = 64;

/// Most bytes of dpkg's status.
pub(super) const STATUS: u64 = 64 << 20;

/// Most bytes of a program or library that is searched for a text.
pub(super) const PROGRAM: u64 = 64 << 20;
