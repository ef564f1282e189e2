"""Asks a BIOS.v service for the asset tag of a domain with zeep, over SOAP 1.1 and over SOAP 1.2, and prints the answers.

BIOSV_URL is the service's address, BIOSV_ROOTS its root, BIOSV_CERT and BIOSV_KEY the certificate and key to ask with.
"""

import os

import requests
import zeep

session = requests.Session()
session.trust_env = False  # REQUESTS_CA_BUNDLE would count for more than what follows
session.verify = os.environ["BIOSV_ROOTS"]
session.cert = (os.environ["BIOSV_CERT"], os.environ["BIOSV_KEY"])
url = os.environ["BIOSV_URL"]
client = zeep.Client(url + "?wsdl", transport=zeep.transports.Transport(session=session))
for binding in "Bios", "Bios12":
    service = client.create_service("{urn:biosv:bios:v1}" + binding, url + "/demo")
    print(binding, service.GetAssetTag())
