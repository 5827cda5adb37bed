'use strict'

const REGIONS = ['North', 'East', 'South', 'West', 'Île-de-France']
const PRODUCTS = ['Bolt', 'Nut', 'Washer', 'Hinge & Pin', "Carpenter's Clamp", 'Rivet', 'Öse']
const FIRST_DAY = Date.UTC(2024, 0, 1)
const MS_PER_DAY = 24 * 60 * 60 * 1000

// The same rows on every start (no clock, no random numbers), so a test can
// compare what arrives through the proxy with what it expects.
// A few names hold characters that need escaping in URLs, JSON or XML.
exports.salesRows = count =>
  Array.from({ length: count }, (_, index) => {
    const id = index + 1
    return {
      ID: id,
      Region: REGIONS[id % REGIONS.length],
      Product: PRODUCTS[id % PRODUCTS.length],
      Amount: ((id * 7919) % 1000000) / 100,
      Day: new Date(FIRST_DAY + (id % 366) * MS_PER_DAY).toISOString().slice(0, 10),
    }
  })
