"""Fetches a CSRF token and creates a user with it, with one cookie jar for both, and prints the statuses.

jar.py URL: knows the sidecar's URL and nothing else; prints one JSON document.
"""

import http.cookiejar
import json
import sys
import urllib.request

import requests

FETCH = {"x-csrf-token": "fetch"}


def by_requests(url):
    session = requests.Session()
    session.trust_env = False  # no proxy and no credentials from the environment
    token = session.get(f"{url}/api/v1/csrf", headers=FETCH).headers["x-csrf-token"]
    user, headers = {"userName": "REQUESTS"}, {"x-csrf-token": token}
    return session.post(f"{url}/api/v1/scim2/Users", json=user, headers=headers).status_code


def by_urllib(url):
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
    request = urllib.request.Request(f"{url}/api/v1/csrf", headers=FETCH)
    token = opener.open(request).headers["x-csrf-token"]
    headers = {"x-csrf-token": token, "content-type": "application/json"}
    body = json.dumps({"userName": "URLLIB"}).encode()
    request = urllib.request.Request(f"{url}/api/v1/scim2/Users", body, headers)
    return opener.open(request).status


def main(url):
    json.dump({"requests": by_requests(url), "urllib": by_urllib(url)}, sys.stdout)


main(sys.argv[1])
