namespace demo;

entity Sales {
  key ID      : Integer;
      Region  : String(20);
      Product : String(40);
      Amount  : Decimal(15, 2);
      Day     : Date;
}
