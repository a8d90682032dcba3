//! Where things are in the running appliance.

/// The scratch disk. Without one, this is a folder of the root file system, which is then in memory.
pub const SCRATCH: &str = "/scratch";

/// Beneath [`SCRATCH`]: the upper layer of the root file system, with all that was changed in it since the start.
pub const UPPER: &str = ".root/upper";

/// The tree that the stages of a build work on.
pub const TREE: &str = "/scratch/tree";

/// What stands for `/tmp` in a tree while commands run in it, so that their leftovers do not end in the image.
pub const TREE_TMP: &str = "/scratch/tmp";

/// What stands for `/run` in a tree, for the same reason. Both stay from one stage to the next.
pub const TREE_RUN: &str = "/scratch/run";

/// Where the file systems of the target disk are mounted while the image is assembled.
pub const TARGET: &str = "/target";

/// The recipe's folder, read-only. Missing when the VM was started without the share.
pub const WORK: &str = "/work";

/// Where files for the host go. Missing when the VM was started without the share.
pub const STAGING: &str = "/staging";

/// The layers of the container image that the build starts from, read-only. Missing when the VM was started without the
/// share.
pub const BASE: &str = "/base";
