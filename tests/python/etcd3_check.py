"""Drives a server through the Python package `etcd3`: one line for each area that works.

Usage: etcd3_check.py HOST PORT. The server must be fresh.
"""

import sys
import threading

import etcd3


def keys(client):
    assert client.get("none") == (None, None)
    client.put("key", "1")
    value, about = client.get("key")
    assert (value, about.key, about.version) == (b"1", b"key", 1)
    assert client.put("key", "2", prev_kv=True).prev_kv.value == b"1"
    assert client.put_if_not_exists("key", "3") is False
    assert client.put_if_not_exists("fresh", "3") is True
    assert client.replace("key", "2", "4") is True
    assert client.replace("key", "2", "5") is False
    assert client.delete("key") is True
    assert client.delete("key") is False


def ranges(client):
    for number in (2, 1, 3):
        client.put(f"range/{number}", str(4 - number))
    found = [value for value, _ in client.get_prefix("range/")]
    assert found == [b"3", b"2", b"1"], found
    found = [value for value, _ in client.get_prefix("range/", sort_order="descend", sort_target="value")]
    assert found == [b"3", b"2", b"1"], found
    found = [about.key for _, about in client.get_range("range/1", "range/3")]
    assert found == [b"range/1", b"range/2"], found
    assert all(value == b"" for value, _ in client.get_prefix("range/", keys_only=True))
    assert client.delete_prefix("range/").deleted == 3


def transactions(client):
    client.put("txn", "1")
    swap = dict(
        compare=[client.transactions.value("txn") == "1", client.transactions.version("txn") > 0],
        success=[client.transactions.put("txn", "2"), client.transactions.get("txn")],
        failure=[client.transactions.get("txn")],
    )
    succeeded, answers = client.transaction(**swap)
    assert succeeded and answers[1][0][0] == b"2", answers
    succeeded, answers = client.transaction(**swap)
    assert not succeeded and answers[0][0][0] == b"2", answers


def watches(client):
    events, cancel = client.watch_prefix("watch/")
    client.put("watch/1", "a")
    client.put("elsewhere", "a")
    client.put("watch/2", "b")
    client.delete("watch/1")
    seen = [next(events) for _ in range(3)]
    cancel()
    assert [event.key for event in seen] == [b"watch/1", b"watch/2", b"watch/1"]
    assert isinstance(seen[0], etcd3.events.PutEvent) and seen[0].value == b"a"
    assert isinstance(seen[2], etcd3.events.DeleteEvent)
    begin = seen[0].mod_revision
    events, cancel = client.watch_prefix("watch/", start_revision=begin)
    assert [next(events).mod_revision for _ in range(3)] == [e.mod_revision for e in seen]
    cancel()
    told = threading.Event()
    number = client.add_watch_callback("callback", lambda answer: told.set())
    client.put("callback", "x")
    assert told.wait(10)
    client.cancel_watch(number)


def leases(client):
    lease = client.lease(60)
    client.put("leased", "x", lease=lease)
    assert 0 < lease.remaining_ttl <= 60 and lease.granted_ttl == 60
    assert list(lease.keys) == [b"leased"]
    assert next(iter(lease.refresh())).TTL == 60
    lease.revoke()
    assert client.get("leased") == (None, None)


def locks(client):
    lock = client.lock("lock", ttl=10)
    assert lock.acquire(timeout=5) and lock.is_acquired()
    other = client.lock("lock", ttl=10)
    assert not other.acquire(timeout=1)
    assert lock.release()
    with other:
        assert other.is_acquired()


def maintenance(client):
    status = client.status()
    assert status.version.startswith("3.") and status.db_size > 0
    assert status.leader.id == next(iter(client.members)).id
    assert list(client.list_alarms()) == []
    assert len(list(client.create_alarm())) == 1
    try:
        client.put("alarmed", "x")
        raise AssertionError("writes must be refused")
    except Exception as error:
        assert "database space exceeded" in str(error), error
    client.disarm_alarm(member_id=0)
    client.put("alarmed", "x")
    client.defragment()
    assert client.hash() != 0
    revision = client.put("compact", "1").header.revision
    client.put("compact", "2")
    client.compact(revision)


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    for check in (keys, ranges, transactions, watches, leases, locks, maintenance):
        client = etcd3.client(host=host, port=port, timeout=20)
        check(client)
        client.close()
        print("ok", check.__name__, flush=True)


main()
