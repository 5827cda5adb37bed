"""Reads an entity set of an OData V4 service with python-odata, and prints what it saw.

client_v4.py URL SET: the library follows `@odata.nextLink` by itself; prints one JSON document.
"""

import json
import sys

import requests
from odata import ODataService


def main(url, entity_set):
    session = requests.Session()
    session.trust_env = False  # no proxy and no credentials from the environment
    urls = []
    session.hooks["response"].append(lambda answer, **_: urls.append(answer.url))
    service = ODataService(url, session=session, reflect_entities=True, quiet_progress=True)
    rows = list(service.query(service.entities[entity_set]))
    json.dump({"ids": [row.ID for row in rows], "urls": urls}, sys.stdout)


main(*sys.argv[1:])
