"""URLs of PostgreSQL databases, in the forms in which people are given them."""

import pytest

from attune_kit.postgres.url import parse

NEON = "postgresql://o:p%40ss@ep-cool-rain-123-pooler.eu-central-1.aws.neon.tech/neondb"


@pytest.mark.parametrize(
    ("url", "hosts", "who", "database"),
    [
        # CloudNativePG's Secret `uri`
        ("postgresql://app:s3cret@cluster-rw.prod:5432/app", [("cluster-rw.prod", 5432)], ("app", "s3cret"), "app"),
        (
            f"{NEON}?sslmode=require&channel_binding=require",
            [("ep-cool-rain-123-pooler.eu-central-1.aws.neon.tech", 5432)],
            ("o", "p@ss"),
            "neondb",
        ),
        # Supabase's pooler
        (
            "postgres://postgres.abcd:p%23w@aws-0-eu-west-1.pooler.supabase.com:6543/postgres",
            [("aws-0-eu-west-1.pooler.supabase.com", 6543)],
            ("postgres.abcd", "p#w"),
            "postgres",
        ),
        # RDS
        (
            "postgresql://u:p@x.eu-west-1.rds.amazonaws.com:5432/d?sslmode=verify-full&sslrootcert=/etc/attune/rds.pem",
            [("x.eu-west-1.rds.amazonaws.com", 5432)],
            ("u", "p"),
            "d",
        ),
        # Heroku
        (
            "postgres://u:p@ec2-1.compute.amazonaws.com:5432/d9",
            [("ec2-1.compute.amazonaws.com", 5432)],
            ("u", "p"),
            "d9",
        ),
        ("postgresql://u:p@a,b:5433/d", [("a", 5432), ("b", 5433)], ("u", "p"), "d"),
        ("postgresql://u@/d?host=a,b&port=1,2", [("a", 1), ("b", 2)], ("u", None), "d"),
        ("postgresql://u@/d?host=a,b&port=1", [("a", 1), ("b", 1)], ("u", None), "d"),
        ("postgresql://u@/d?host=a:1&host=b:2", [("a", 1), ("b", 2)], ("u", None), "d"),
        ("postgresql://[::1]:6000,[fd00::2]/d", [("::1", 6000), ("fd00::2", 5432)], (None, None), "d"),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/d", [("/var/run/postgresql", 5432)], ("u", None), "d"),
        ("postgresql:///d?host=/var/run/postgresql&port=5433", [("/var/run/postgresql", 5433)], (None, None), "d"),
        ("postgresql://h/?dbname=d&user=u&password=p+q", [("h", 5432)], ("u", "p+q"), "d"),
        ("postgresql+asyncpg://u:@h/d", [("h", 5432)], ("u", ""), "d"),
        ("postgresql://", [], (None, None), None),
    ],
)
def test_forms_in_which_people_are_given_them(
    url: str, hosts: list[tuple[str, int]], who: tuple[str | None, str | None], database: str | None
) -> None:
    read = parse(url)
    assert list(read.hosts) == hosts
    assert (read.user, read.password) == who
    assert read.database == database


def test_parameters_go_where_they_belong() -> None:
    read = parse(
        "postgresql://h/d?sslmode=verify-ca&sslrootcert=/ca.pem&sslcert=/c&sslkey=/k&application_name=mine"
        "&connect_timeout=3&options=-c%20geqo%3Doff&keepalives_idle=10&tcp_user_timeout=5000&gssencmode=disable"
        "&target_session_attrs=read-write&client_encoding=UTF8&sslsni=1&channel_binding=prefer"
    )
    assert read.tls == {"sslmode": "verify-ca", "sslrootcert": "/ca.pem", "sslcert": "/c", "sslkey": "/k"}
    assert read.tls_url() == "postgresql:///?sslmode=verify-ca&sslrootcert=%2Fca.pem&sslcert=%2Fc&sslkey=%2Fk"
    assert read.settings == {"application_name": "mine", "options": "-c geqo=off"}
    assert read.connect_timeout == 3
    assert not read.binds_channel
    assert parse("postgresql://h/d?ssl=require").tls == {"sslmode": "require"}
    assert parse("postgresql://h/d?channel_binding=require").binds_channel
    assert parse("postgresql://h/d?connect_timeout=0").connect_timeout is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://h/d?pgbouncer=true", "'pgbouncer'"),
        ("postgresql://h/d?sslmode=maybe", "verify-full"),
        ("postgresql://h/d?target_session_attrs=standby", "target_session_attrs"),
        ("postgresql://h/d?gssencmode=require", "gssencmode"),
        ("postgresql://h/d?client_encoding=latin1", "client_encoding"),
        ("postgresql://h/d?connect_timeout=soon", "connect_timeout"),
        ("postgresql://a,b/d?host=a,b&port=1,2,3", "ports"),
        ("postgresql://h:d/d", "%40"),
        ("postgresql://u:a@b@h/d", "%40"),
        ("mysql://h/d", "postgresql://"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(url)


def test_secrets_are_not_shown() -> None:
    shown = parse("postgresql://u:geheim@a,b:1/d?sslmode=require&sslpassword=geheim&sslkey=/k").shown()
    assert shown == "postgresql://u:***@a:5432,b:1/d?sslmode=require&sslpassword=***&sslkey=/k"
    assert "geheim" not in parse("postgresql://h/d?user=u&password=geheim").shown()
    assert "geheim" not in repr(parse("postgresql://u:geheim@h/d?password=geheim"))
