//! Real processes: a node that is started on an old copy of its data folder says so and stops.

#![allow(clippy::unwrap_used)]

mod cluster;

use std::fs;
use std::path::Path;

use cluster::Cluster;

const OLDER: &str = "this node's data is older than what it signed";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_old_copy_of_a_data_folder_stops_its_node_and_the_newer_one_goes_on() {
    let mut cluster = Cluster::new();
    cluster.form().await;
    cluster.certified(1, cluster.evidence(1)).await;
    assert_eq!(cluster.terminate(4), Some(0), "{}", cluster.log(4));
    let data = cluster.data(4);
    let (old, new) = (data.with_file_name("old"), data.with_file_name("new"));
    copy(&data, &old);

    cluster.start(4);
    let mut height = 0;
    for number in 2..8 {
        height = cluster.certified(1, cluster.evidence(number)).await.height;
    }
    cluster.caught_up(4, height).await;
    assert_eq!(cluster.terminate(4), Some(0), "{}", cluster.log(4));
    assert!(!cluster.log(4).contains(OLDER), "{}", cluster.log(4));
    fs::rename(&data, &new).unwrap();
    fs::rename(&old, &data).unwrap();

    cluster.start(4);
    cluster.says(4, OLDER).await;
    assert!(!cluster.healthy(4).await, "it takes no part");
    let others = cluster.certified(1, cluster.evidence(8)).await;
    assert_eq!(cluster.terminate(4), Some(0), "{}", cluster.log(4));

    fs::remove_dir_all(&data).unwrap();
    fs::rename(&new, &data).unwrap();
    cluster.start(4);
    cluster.caught_up(4, others.height).await;
    let last = cluster.certified(4, cluster.evidence(9)).await;
    assert!(last.height > others.height);
}
