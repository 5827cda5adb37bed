using { demo } from '../db/schema';

// The path has the shape of a Datasphere consumption API: space DEMO, asset SALES.
// Client-credentials tokens have no user, but count as authenticated.
// The page size is small enough for 2,500 rows to need several pages.
@path           : '/api/v1/datasphere/consumption/relational/DEMO/SALES'
@requires       : 'authenticated-user'
@cds.query.limit: { default: 400, max: 400 }
service SalesService {

  @Capabilities: {
    UpdateRestrictions.Updatable: false,
    DeleteRestrictions.Deletable: false
  }
  entity Sales as projection on demo.Sales;
}
