//! File systems to work on: that of the temporary directory, and images of others where they can be mounted.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A file system to work on, mounted for the time of a test.
pub(crate) struct Disk {
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    mounted: bool,
    _place: tempfile::TempDir,
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        }
    }
}

pub(crate) fn run(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .output()
        .is_ok_and(|o| o.status.success())
}

/// The file system of the temporary directory, a tmpfs, and images of others; those that cannot be had here are named.
pub(crate) fn disks() -> Vec<Disk> {
    let mut disks = Vec::new();
    for name in ["own", "tmpfs", "ext4", "xfs", "btrfs"] {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("disk");
        fs::create_dir(&dir).unwrap();
        let image = place.path().join("image");
        let (at, image_text) = (dir.to_str().unwrap(), image.to_str().unwrap().to_owned());
        let mounted = match name {
            "own" => true,
            "tmpfs" => run("mount", &["-t", "tmpfs", "-o", "size=256M", "none", at]),
            _ => {
                let file = fs::File::create(&image).unwrap();
                file.set_len(512 << 20).unwrap();
                let quiet: &[&str] = match name {
                    "ext4" => &["-q", "-F"],
                    _ => &["-q"],
                };
                let args: Vec<&str> = quiet.iter().copied().chain([image_text.as_str()]).collect();
                run(&format!("mkfs.{name}"), &args)
                    && run("mount", &["-o", "loop", &image_text, at])
            }
        };
        if !mounted {
            println!("skipped: {name} cannot be had here");
            continue;
        }
        disks.push(Disk {
            name,
            dir,
            mounted: name != "own",
            _place: place,
        });
    }
    disks
}
