//! Twenty at once: one has it, and because the others came, it ends.

use std::sync::Barrier;

use crate::auth::server::tests::rig::{Rig, Told, rig, rig_in_files};

const MANY: usize = 20;

fn together(act: impl Fn() -> Told + Sync) -> Vec<Told> {
    let barrier = Barrier::new(MANY);
    std::thread::scope(|scope| {
        let act = || {
            barrier.wait();
            act()
        };
        let threads: Vec<_> = (0..MANY).map(|_| scope.spawn(act)).collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

fn one_wins_and_it_ends(rig: &Rig, answers: &[Told]) {
    let (won, lost): (Vec<&Told>, Vec<&Told>) =
        answers.iter().partition(|told| told.0.status == 200);
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|told| told.fault() == "400 invalid_grant"));
    assert!(rig.claims(&won[0].text("access_token")).is_none());
    let refreshed = rig.refresh(&won[0].text("refresh_token"), &[]);
    assert_eq!(refreshed.fault(), "400 invalid_grant");
    assert_eq!(rig.server.families().unwrap(), []);
}

fn race(rig: &Rig, rounds: usize) {
    for _ in 0..rounds {
        let code = rig.code(&[]);
        one_wins_and_it_ends(rig, &together(|| rig.redeem(&code, &[])));
        let first = rig.redeem(&rig.code(&[]), &[]).text("refresh_token");
        one_wins_and_it_ends(rig, &together(|| rig.refresh(&first, &[])));
    }
}

#[test]
fn of_twenty_one_has_the_tokens_in_memory() {
    race(&rig(), 200);
}

#[test]
fn of_twenty_one_has_the_tokens_in_files() {
    race(&rig_in_files("auth-races"), 5);
}
