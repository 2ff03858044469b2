//! Every lie of [`super::spoil`] is found.

use super::{
    driver::Driver,
    spoil::{Lie, Spoiler},
};

/// Runs seeds until the lie was told; then it must be found.
fn is_found(lie: Lie) {
    for seed in 1..200 {
        let mut driver = Driver::new(seed, false).unwrap();
        driver.spoiler = Some(Spoiler::new(lie));
        let result = driver.run(super::STEPS);
        if driver.spoiler.is_some_and(|spoiler| spoiler.told) {
            // A device may have by itself what it is not hinted at.
            let harmless = lie == Lie::HintLost && result.is_ok();
            assert!(
                harmless || result.is_err(),
                "{lie:?} was told in seed {seed}, and nobody noticed"
            );
            if harmless {
                continue;
            }
            return;
        }
        assert_eq!(result, Ok(()), "without a lie, seed {seed}");
    }
    panic!("no occasion for {lie:?}");
}

#[test]
fn every_lie_is_found() {
    roamd::store::fsync::set_enabled(false);
    for lie in [
        Lie::EntryLost,
        Lie::EntryAgain,
        Lie::RecalledContent,
        Lie::HintLost,
        Lie::PushAgain,
        Lie::PushOfAnotherRow,
        Lie::ChangePushedAsItWas,
        Lie::TotalPushed,
        Lie::PresencePushed,
        Lie::CaughtUpTotal,
        Lie::WelcomeHead,
        Lie::Unread,
        Lie::UnreadOfOne,
        Lie::Mentions,
        Lie::HistoryRowLost,
        Lie::HistoryFloor,
        Lie::EditedContent,
        Lie::HiddenContent,
        Lie::MutationLost,
        Lie::Reader,
        Lie::AckSeq,
        Lie::AckAgain,
        Lie::VerdictUpToDate,
        Lie::Title,
        Lie::Preferences,
        Lie::DeviceList,
        Lie::MemberLeftOut,
        Lie::InboxNotTold,
        Lie::SessionNotEnded,
        Lie::PresenceNotTold,
        Lie::EphemeralToAll,
        Lie::Badge,
        Lie::JobOfAnotherDevice,
    ] {
        is_found(lie);
    }
}
