//! Who may speak to visor: root, visor's own user, and the members of the manifest's group.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use std::ffi::CString;
use std::io;

/// Who is at the other end, by the kernel's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// A group of this machine, by name or number.
pub(super) fn group(text: &str) -> io::Result<Gid> {
    let found = match text.parse() {
        Ok(gid) => Some(Gid::from_raw(gid)),
        Err(_) => Group::from_name(text)?.map(|g| g.gid),
    };
    found.ok_or_else(|| io::Error::other(format!("this machine has no group \"{text}\"")))
}

impl Peer {
    /// True for root and visor's own user, who could write the state directory itself.
    pub(super) fn is_own(self) -> bool {
        self.uid == 0 || self.uid == Uid::effective().as_raw()
    }

    pub(super) fn may_speak(self, group: Option<Gid>) -> bool {
        self.is_own() || group.is_some_and(|group| self.is_member(group))
    }

    fn is_member(self, group: Gid) -> bool {
        let gid = Gid::from_raw(self.gid);
        let user = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        let name = user.and_then(|user| CString::new(user.name).ok());
        let all = name.and_then(|name| getgrouplist(&name, gid).ok());
        gid == group || all.is_some_and(|all| all.contains(&group))
    }

    /// For records that people read.
    pub(super) fn name(self) -> String {
        let uid = self.uid;
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        user.map_or_else(
            || format!("uid {uid}"),
            |user| format!("{} (uid {uid})", user.name),
        )
    }
}
