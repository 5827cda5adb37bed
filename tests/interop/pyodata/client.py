"""Reads an OData V2 service with SAP's pyodata, follows the links it gets, and prints what it saw.

client.py URL: knows the service's URL and nothing else; prints one JSON document.
"""

import datetime
import json
import sys

import pyodata
import requests
from pyodata.exceptions import HttpError


def read_all(query, entity_set):
    """All rows of a query and the number of pages. pyodata refuses a `__next` at another origin."""
    page = query.execute()
    rows, pages = list(page), 1
    while page.next_url:
        page = entity_set.get_entities().next_url(page.next_url).execute()
        rows += page
        pages += 1
    return rows, pages


def create(entity_set):
    """The new row's key, or the status of the refusal."""
    day = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    row = {"ID": 9001, "Region": "EMEA", "Product": "Tea", "Amount": 7.5, "Day": day}
    try:
        return entity_set.create_entity().set(**row).execute().ID
    except HttpError as refused:
        return refused.response.status_code


def main(url):
    session = requests.Session()
    session.trust_env = False  # no proxy and no credentials from the environment
    answers = []
    service = pyodata.Client(url, session, response_hook=answers.append)
    sales = service.entity_sets.Sales

    rows, pages = read_all(sales.get_entities(), sales)
    uris = [row["__metadata"]["uri"] for answer in answers for row in answer.json()["d"]["results"]]
    by_uri = session.get(uris[-1], headers={"Accept": "application/json"})

    region = "Île-de-France"
    filtered = sales.get_entities().filter(f"Region eq '{region}'")
    of_region, _ = read_all(filtered, sales)

    json.dump(
        {
            "properties": [p.name for p in service.schema.entity_type("Sales").proprties()],
            "count": sales.get_entities().count().execute(),
            "ids": [row.ID for row in rows],
            "pages": pages,
            "uris": uris,
            "by_uri": by_uri.json()["d"]["ID"],
            "by_key": sales.get_entity(7).execute().Product,
            "of_region": len([row for row in of_region if row.Region == region]),
            "created": create(sales),
        },
        sys.stdout,
    )


main(sys.argv[1])
