'use strict'

const fs = require('node:fs')
const https = require('node:https')
const { Console } = require('node:console')

// Stdout belongs to the LISTENING line; whatever a library logs goes to stderr.
global.console = new Console(process.stderr, process.stderr)

const compression = require('compression')
const express = require('express')
const cds = require('@sap/cds')
const { salesRows } = require('./db/rows')

const ROW_COUNT = 2500

function env(name) {
  const value = process.env[name]
  if (!value) throw new Error(`environment variable ${name} is not set`)
  return value
}

// What a service binding would hold on SAP BTP.
function xsuaaCredentials() {
  const uaadomain = env('UAA_DOMAIN')
  return {
    clientid: env('UAA_CLIENT_ID'),
    clientsecret: env('UAA_CLIENT_SECRET'),
    xsappname: env('XSAPPNAME'),
    uaadomain,
    url: `https://${uaadomain}`,
  }
}

// CAP's own bootstrap calls app.listen(port), which would be plain HTTP on all interfaces.
function httpsApp(tls) {
  const app = express()
  if (process.env.COMPRESS) app.use(compression())
  app.listen = port => https.createServer(tls, app).listen(port, '127.0.0.1')
  return app
}

// The parent holds the other end of stdin: when it dies, stdin closes, and no orphan stays.
function exitWithParent() {
  const exit = () => process.exit(0)
  process.on('SIGTERM', exit)
  process.stdin.on('end', exit).on('close', exit).on('error', exit).resume()
}

async function main() {
  exitWithParent()

  const port = Number(env('PORT'))
  const tls = {
    cert: fs.readFileSync(env('TLS_CERT_FILE')),
    key: fs.readFileSync(env('TLS_KEY_FILE')),
  }

  cds.root = __dirname // independent of the directory it is started from
  await cds.plugins // registers the SQLite service; must come before the first look at cds.env
  cds.env.requires.auth.credentials = xsuaaCredentials()

  // Fill the table before the port opens, so LISTENING means all rows are there.
  const { INSERT } = cds.ql
  cds.on('served', () => cds.db.run(INSERT.into('demo.Sales').entries(salesRows(ROW_COUNT))))

  const server = await cds.server({ app: httpsApp(tls), port, in_memory: true })
  const announce = () => {
    const { port } = server.address()
    const url = `https://localhost:${port}`
    // CAP gives absolute contexts if told where it is; its next links are relative in any case.
    if (process.env.ABSOLUTE_CONTEXT) {
      cds.env.odata.contextAbsoluteUrl = url + cds.services.SalesService.path
    }
    // The OData V2 adapter answers from here on: it calls the V4 service at this address.
    cds.emit('listening', { server, url })
    process.stdout.write(`LISTENING ${port}\n`)
  }
  server.on('error', fail)
  server.listening ? announce() : server.once('listening', announce)
}

function fail(error) {
  console.error(error)
  process.exit(1)
}

main().catch(fail)
