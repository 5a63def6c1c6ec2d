//! Keys: put, get, delete, transactions, compaction.

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn,
    TxnOp, TxnOpResponse,
};

use crate::{Checked, ensure};

pub async fn put(client: &mut Client) -> Checked {
    let first = client.put("put", "1", None).await?;
    ensure(first.prev_key().is_none(), "nobody asked for the version before");
    let options = PutOptions::new().with_prev_key();
    let second = client.put("put", "2", Some(options)).await?;
    let before = second.prev_key().expect("asked for");
    assert_eq!((before.key(), before.value(), before.version()), (&b"put"[..], &b"1"[..], 1));
    let revision =
        |answer: &etcd_client::PutResponse| answer.header().expect("a header").revision();
    assert_eq!(revision(&second), revision(&first) + 1);
    let missing = client.put("nowhere", "", Some(PutOptions::new().with_ignore_value())).await;
    ensure(missing.is_err(), "there is no value to keep");
    Ok(())
}

pub async fn get(client: &mut Client) -> Checked {
    for number in [3, 1, 2] {
        client.put(format!("get/{number}"), number.to_string(), None).await?;
    }
    let prefix = || GetOptions::new().with_prefix();
    let keys = async |client: &mut Client, options| {
        let answer = client.get("get/", Some(options)).await?;
        let keys: Vec<_> = answer.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()).collect();
        Ok::<_, etcd_client::Error>((keys.join(" "), answer.more(), answer.count()))
    };
    assert_eq!(keys(client, prefix()).await?, ("get/1 get/2 get/3".into(), false, 3));
    assert_eq!(keys(client, prefix().with_limit(2)).await?, ("get/1 get/2".into(), true, 3));
    let sorted = prefix().with_sort(SortTarget::Create, SortOrder::Descend);
    assert_eq!(keys(client, sorted).await?, ("get/2 get/1 get/3".into(), false, 3));
    let counted = prefix().with_count_only();
    assert_eq!(keys(client, counted).await?, (String::new(), false, 3));
    let answer = client.get("get/", Some(prefix().with_keys_only())).await?;
    ensure(answer.kvs().iter().all(|kv| kv.value().is_empty()), "keys alone");
    let answer = client.get("get/2", Some(GetOptions::new().with_range("get/3"))).await?;
    assert_eq!(answer.count(), 1);
    let answer = client.get("get/2", Some(GetOptions::new().with_from_key())).await?;
    ensure(answer.count() >= 2, "everything from a key on");
    let answer = client.get("get/9", None).await?;
    ensure(answer.kvs().is_empty() && answer.count() == 0, "a key that is not there");
    Ok(())
}

pub async fn get_stream(client: &mut Client) -> Checked {
    let mut client = client.kv_client();
    for number in 0..50 {
        client.put(format!("stream/{number:02}"), vec![b'x'; 200_000], None).await?;
    }
    let options = || GetOptions::new().with_prefix();
    let mut stream = client.get_stream("stream/", Some(options())).await?;
    let (mut found, mut answers) = (Vec::new(), 0);
    let mut count = 0;
    while let Some(answer) = stream.message().await? {
        answers += 1;
        count = answer.count();
        found.extend(answer.kvs().iter().map(|kv| kv.key_str().unwrap().to_owned()));
    }
    let expected: Vec<_> = (0..50).map(|number| format!("stream/{number:02}")).collect();
    assert_eq!((found, count), (expected, 50));
    ensure(answers > 1, "ten megabytes in one answer");
    let mut stream = client.get_stream("stream/", Some(options().with_limit(20))).await?;
    let mut last = None;
    while let Some(answer) = stream.message().await? {
        last = Some(answer);
    }
    let last = last.expect("an answer");
    assert_eq!((last.more(), last.count()), (true, 50));
    let mut stream = client.get_stream("stream/none", None).await?;
    let answer = stream.message().await?.expect("an answer");
    ensure(answer.kvs().is_empty() && answer.count() == 0, "a key that is not there");
    ensure(stream.message().await?.is_none(), "one answer");
    Ok(())
}

pub async fn delete(client: &mut Client) -> Checked {
    for key in ["del/1", "del/2", "del/3", "del/4"] {
        client.put(key, "x", None).await?;
    }
    assert_eq!(client.delete("del/1", None).await?.deleted(), 1);
    assert_eq!(client.delete("del/1", None).await?.deleted(), 0);
    let options = DeleteOptions::new().with_range("del/3").with_prev_key();
    let answer = client.delete("del/", Some(options)).await?;
    assert_eq!((answer.deleted(), answer.prev_kvs()[0].key()), (1, &b"del/2"[..]));
    let answer = client.delete("del/", Some(DeleteOptions::new().with_prefix())).await?;
    assert_eq!(answer.deleted(), 2);
    Ok(())
}

pub async fn compact(client: &mut Client) -> Checked {
    let put = client.put("compact", "0", None).await?;
    let old = put.header().expect("a header").revision();
    let put = client.put("compact", "1", None).await?;
    let new = put.header().expect("a header").revision();
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    assert_eq!(client.get("compact", at(old)).await?.kvs()[0].value(), b"0");
    client.compact(new, None).await?;
    ensure(client.get("compact", at(old)).await.is_err(), "it is compacted");
    assert_eq!(client.get("compact", at(new)).await?.kvs()[0].value(), b"1");
    ensure(client.compact(new, None).await.is_err(), "it is compacted already");
    Ok(())
}

pub async fn transaction(client: &mut Client) -> Checked {
    client.put("txn", "1", None).await?;
    let swap = || {
        Txn::new()
            .when([Compare::value("txn", CompareOp::Equal, "1")])
            .and_then([
                TxnOp::put("txn", "2", Some(PutOptions::new().with_prev_key())),
                TxnOp::txn(Txn::new().and_then([TxnOp::get("txn", None)])),
            ])
            .or_else([TxnOp::get("txn", None)])
    };
    let first = client.txn(swap()).await?;
    ensure(first.succeeded(), "the compare holds");
    match &first.op_responses()[..] {
        [TxnOpResponse::Put(put), TxnOpResponse::Txn(nested)] => {
            assert_eq!(put.prev_key().expect("asked for").value(), b"1");
            match &nested.op_responses()[..] {
                [TxnOpResponse::Get(get)] => assert_eq!(get.kvs()[0].value(), b"2"),
                other => panic!("{other:?}"),
            }
        }
        other => panic!("{other:?}"),
    }
    let second = client.txn(swap()).await?;
    ensure(!second.succeeded(), "the compare fails now");
    match &second.op_responses()[..] {
        [TxnOpResponse::Get(get)] => assert_eq!(get.kvs()[0].value(), b"2"),
        other => panic!("{other:?}"),
    }
    Ok(())
}
