//! Transactions whose callers go away.

use futures::future::join_all;

use crate::fixture::Database;

on_every_database!(a_caller_that_goes_away_leaves_no_transaction_open);

async fn a_caller_that_goes_away_leaves_no_transaction_open(db: Database) {
    let made = db.submit("a").await;
    let executions = db.store.executions(db.project);
    let read = || join_all((0..8).map(|_| executions.plan(made.id)));
    let read_one_moment = || join_all((0..8).map(|_| executions.details(made.id)));
    read().await;
    for polls in (1..12).cycle().take(60) {
        let mut call = Box::pin(async {
            let queue = db.store.queue();
            queue.grant_grace(db.clock.now()).await
        });
        for _ in 0..polls {
            if futures::poll!(&mut call).is_ready() {
                break;
            }
        }
        drop(call);
        read().await;
        // That begins with a level of isolation, which nothing can after a read in the same
        // transaction.
        for seen in read_one_moment().await {
            seen.expect("a connection is as good as before");
        }
    }
}
