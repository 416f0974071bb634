"""Django and a transactional step on one connection: the recipe of docs/transactions.md, as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from tests.lab import Lab

ROOT: Final = Path(__file__).resolve().parent.parent.parent

PROGRAM: Final = """
import os

import django
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict

from squidmesh import Context, Fail, SquidMesh, Workflow

address = conninfo_to_dict(os.environ["DSN"])
database = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": address["dbname"],
    "USER": address.get("user", ""),
    "PASSWORD": address.get("password", ""),
    "HOST": address.get("host", ""),
    "PORT": address.get("port", ""),
    "OPTIONS": {"options": f"-c search_path={os.environ['SCHEMA']}"},
}
settings.configure(DATABASES={"default": database}, USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
django.setup()

from django.db import models, transaction

class Order(models.Model):
    status = models.CharField(max_length=20)
    made = models.DateTimeField(auto_now_add=True)
    tags = models.JSONField(default=dict)

    class Meta:
        app_label = "shop"
        db_table = "shop_order"

orders = Workflow("orders")
{recipe}
shop = Workflow("shop")
for trigger in ("good", "fails", "hook"):
    shop.manual(trigger)

@shop.step(transaction=True)
def ship(ctx: Context):
    ctx.connection.execute(f"SET LOCAL search_path = {{os.environ['SCHEMA']}}")
    with django_on(ctx.connection):
        order = Order.objects.create(status=ctx.trigger, tags={{"a": 1}})
        try:
            with transaction.atomic():
                Order.objects.create(status="part")
                raise KeyError
        except KeyError:
            pass
        again = Order.objects.select_for_update().get(pk=order.pk)
        assert again.tags == {{"a": 1}}
        assert again.made.utcoffset().total_seconds() == 0
        if ctx.trigger == "fails":
            raise Fail("no")
        if ctx.trigger == "hook":
            transaction.on_commit(print)
    return {{"xid": ctx.connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()[0]}}

with connections["default"].schema_editor() as editor:
    editor.create_model(Order)
with SquidMesh(os.environ["DSN"], workflows=[shop], schema=os.environ["SCHEMA"]) as mesh, mesh.worker():
    for trigger in ("fails", "hook", "good"):
        run = mesh.wait_for_run(mesh.start_run(shop, trigger=trigger).id, timeout=30)
        print(trigger, run.status, (run.error or {{}}).get("type"))
for order in Order.objects.all():
    print(order.status, order.tags)
connections.close_all()
"""


def test_djangos_models_write_in_the_steps_transaction(lab: Lab) -> None:
    """In a process of its own, because Django's settings are a process's: committed together, rolled back together."""
    pytest.importorskip("django")
    page = (ROOT / "docs" / "transactions.md").read_text()
    recipe = re.search(
        r"```python\n(from collections\.abc import Iterator\n.*?def django_on.*?)\n\n\n@orders", page, re.DOTALL
    )
    assert recipe is not None
    body = recipe[1].split("```python\n")[-1]
    program = PROGRAM.replace("{recipe}", body).replace("{{", "{").replace("}}", "}")
    environ = {**os.environ, "DSN": lab.dsn, "SCHEMA": lab.schema, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "fails failed Fail",
        "hook failed RuntimeError",
        "good completed None",
        "good {'a': 1}",
    ]
    same = "SELECT o.xmin::text FROM squidmesh.shop_order o JOIN squidmesh.attempts a ON a.xmin = o.xmin"
    assert len(lab.rows(same)) == 1
