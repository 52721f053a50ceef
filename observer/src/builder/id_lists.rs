//! Which lists of users and groups can be kept: a list is worth what records say
//! of a sender's ids.

use observer_events::event::Via;

use super::StartError;
use crate::ebpf::{Attestor, Field, KernelTypes};
use crate::policy::Senders;

/// What is known of the ids in records.
#[derive(Debug)]
pub(crate) enum IdLists {
    /// They are those of the sender.
    Kept,
    /// There are none, for this reason: every sender would be refused.
    Unknown(String),
    /// Nothing but a proof says that they are the sender's. Why there is none
    /// for users, and for groups.
    Unproven {
        uids: Option<String>,
        gids: Option<String>,
    },
}

impl IdLists {
    /// Under tier `helper` no record names a user. And with types that are not
    /// the kernel's own, nothing but a proof says that a record names the right
    /// one.
    pub(super) fn new(attestor: &Attestor, types: &KernelTypes) -> Self {
        match attestor.via() {
            Via::Scm => Self::Kept,
            Via::Helper => {
                let reason = attestor.degraded().unwrap_or("it was asked for");
                Self::Unknown(reason.to_owned())
            }
            Via::Btf if types.are_the_kernels_own() => Self::Kept,
            Via::Btf => Self::Unproven {
                uids: types.unproven(Field::Uid),
                gids: types.unproven(Field::Gid),
            },
        }
    }

    /// # Errors
    /// If these lists would let in, or keep out, the wrong senders.
    pub(crate) fn check(&self, senders: &Senders) -> Result<(), StartError> {
        let Senders { uids, gids } = senders;
        match self {
            Self::Unknown(reason) if !senders.is_everyone() => {
                Err(StartError::UsersUnknown(reason.clone()))
            }
            Self::Unproven {
                uids: Some(reason), ..
            } if !uids.is_empty() => Err(unproven("user", reason)),
            Self::Unproven {
                gids: Some(reason), ..
            } if !gids.is_empty() => Err(unproven("group", reason)),
            _ => Ok(()),
        }
    }
}

fn unproven(ids: &'static str, reason: &str) -> StartError {
    StartError::UsersUnproven {
        ids,
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_needs_ids_that_are_known_and_proved() {
        let list = |uids: &[u32], gids: &[u32]| Senders {
            uids: uids.to_vec(),
            gids: gids.to_vec(),
        };
        let reason = || "so it is".to_owned();
        let no_users = IdLists::Unproven {
            uids: Some(reason()),
            gids: None,
        };
        let no_groups = IdLists::Unproven {
            uids: None,
            gids: Some(reason()),
        };
        for (ids, lists, is_kept) in [
            (&IdLists::Kept, list(&[1], &[2]), true),
            (&IdLists::Unknown(reason()), list(&[], &[]), true),
            (&IdLists::Unknown(reason()), list(&[], &[2]), false),
            (&no_users, list(&[], &[2]), true),
            (&no_users, list(&[1], &[]), false),
            (&no_groups, list(&[1], &[]), true),
            (&no_groups, list(&[1], &[2]), false),
        ] {
            assert_eq!(ids.check(&lists).is_ok(), is_kept, "{ids:?} {lists:?}");
        }
    }
}
