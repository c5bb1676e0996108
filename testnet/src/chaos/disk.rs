//! A small disk for one node's data folder: a file on a loop device, or memory where there are none.
//!
//! What holds here: only folders below the testnet's own are mounted over, and the mounts go when
//! this is dropped; those that a killed run left go before the next one deletes its folder.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::net::{needs, run};

/// How much room there is on it at first beside what a node brings, and how large it is after it has
/// grown.
const ROOM_MIB: u64 = 64;
const GROWN_MIB: u64 = 1_024;

/// A mounted disk.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    mib: u64,
    /// The file behind the loop device; none: a file system in memory.
    image: Option<PathBuf>,
}

/// Fails, and says what to do, where nothing can be mounted.
pub fn available() -> anyhow::Result<()> {
    let programs = [
        ("mount", "mount"),
        ("umount", "mount"),
        ("mkfs.ext4", "e2fsprogs"),
        ("e2fsck", "e2fsprogs"),
        ("resize2fs", "e2fsprogs"),
    ];
    needs("--full-disk", &programs)
}

impl SmallDisk {
    /// Mounts an empty disk over the folder `at`, with little room beside the `bytes` that will be
    /// copied there. `image`: a file that may be made.
    pub fn mount(at: &Path, image: &Path, bytes: u64) -> anyhow::Result<SmallDisk> {
        let mib = ROOM_MIB + bytes.div_ceil(1 << 20);
        let by_loop = mount_loop(at, image, mib);
        let disk = match by_loop {
            Ok(()) => SmallDisk {
                at: at.to_owned(),
                mib,
                image: Some(image.to_owned()),
            },
            Err(no_loop) => {
                let size = format!("size={mib}m");
                let words = ["-t", "tmpfs", "-o", &size, "cairn-chaos", text(at)?];
                if let Err(no_tmpfs) = run("mount", &words, "") {
                    bail!(
                        "cannot run here: no disk can be mounted: {no_loop:#}; {no_tmpfs:#}; \
                         a container needs CAP_SYS_ADMIN and /dev/loop*"
                    );
                }
                SmallDisk {
                    at: at.to_owned(),
                    mib,
                    image: None,
                }
            }
        };
        fs::set_permissions(at, Permissions::from_mode(0o700))?;
        Ok(disk)
    }

    /// Whether it is mounted there.
    pub fn is_at(&self, folder: &Path) -> bool {
        self.at == folder
    }

    /// What it is.
    pub fn kind(&self) -> String {
        let how = match self.image {
            Some(_) => "ext4 on a loop device",
            None => "tmpfs",
        };
        format!("{} MiB, {how}", self.mib)
    }

    /// Gives it much more space. Nobody uses it meanwhile.
    pub fn grow(&self) -> anyhow::Result<()> {
        let at = text(&self.at)?;
        let Some(image) = &self.image else {
            let size = format!("remount,size={GROWN_MIB}m");
            return run("mount", &["-o", &size, at], "");
        };
        // Growing it while it is mounted is forbidden in some containers.
        run("umount", &[at], "")?;
        File::options()
            .write(true)
            .open(image)?
            .set_len(GROWN_MIB << 20)?;
        let image = text(image)?;
        run("e2fsck", &["-f", "-p", image], "")?;
        run("resize2fs", &[image], "")?;
        run("mount", &["-o", "loop", image, at], "")
    }

    /// Bytes that are free for files.
    pub fn free(&self) -> anyhow::Result<u64> {
        let stat = rustix::fs::statvfs(&self.at)?;
        Ok(stat.f_bavail * stat.f_frsize)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mounted = mounts().is_ok_and(|mounts| mounts.iter().any(|(_, at)| *at == self.at));
        if mounted && let Err(error) = unmount(&self.at) {
            eprintln!("{error:#}");
        }
    }
}

/// Unmounts what a killed run left below `root`.
pub fn sweep(root: &Path) -> anyhow::Result<()> {
    for (_, at) in mounts()? {
        if at.starts_with(root) {
            unmount(&at)?;
        }
    }
    Ok(())
}

fn mount_loop(at: &Path, image: &Path, mib: u64) -> anyhow::Result<()> {
    File::create(image)?.set_len(mib << 20)?;
    // Nothing is set aside for root, who may run the node.
    run("mkfs.ext4", &["-q", "-F", "-m", "0", text(image)?], "")?;
    run("mount", &["-o", "loop", text(image)?, text(at)?], "")
}

fn unmount(at: &Path) -> anyhow::Result<()> {
    let at = text(at)?;
    // A process that ends holds it for a moment more; then it goes by itself.
    run("umount", &[at], "").or_else(|_| run("umount", &["-l", at], ""))
}

/// Devices, and where they are mounted.
fn mounts() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let text = fs::read_to_string("/proc/self/mounts")?;
    let line = |line: &str| {
        let mut words = line.split(' ');
        let device = words.next()?.to_owned();
        // The system writes a blank like this.
        let at = words.next()?.replace("\\040", " ");
        Some((device, PathBuf::from(at)))
    };
    Ok(text.lines().filter_map(line).collect())
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is no text", path.display()))
}
